"""Predict the memory that a network or a search space needs: the same as `ossnet plan`."""

from ossnet.commands.main import run_job

if __name__ == "__main__":
    run_job("plan")
