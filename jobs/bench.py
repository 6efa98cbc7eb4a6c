"""Run a benchmark: the same as `ossnet bench`."""

from ossnet.commands.main import run_job

if __name__ == "__main__":
    run_job("bench")
