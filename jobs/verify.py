"""Check a folder of scans or a store: the same as `ossnet verify`."""

from ossnet.commands.main import run_job

if __name__ == "__main__":
    run_job("verify")
