"""Report the runs of an MLflow experiment: the same as `ossnet report`."""

from ossnet.commands.main import run_job

if __name__ == "__main__":
    run_job("report")
