"""Serve a trained network to programs on this machine: the same as `ossnet serve`."""

from ossnet.commands.main import run_job

if __name__ == "__main__":
    run_job("serve")
