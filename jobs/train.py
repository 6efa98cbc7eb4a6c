"""Train one network: the same as `ossnet train`."""

from ossnet.commands.main import run_job

if __name__ == "__main__":
    run_job("train")
