"""Check the cluster, or this machine: the same as `ossnet doctor`."""

from ossnet.commands.main import run_job

if __name__ == "__main__":
    run_job("doctor")
