"""Prepare a folder of scans into a store: the same as `ossnet prepare`."""

from ossnet.commands.main import run_job

if __name__ == "__main__":
    run_job("prepare")
