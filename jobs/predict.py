"""Segment new scans with a trained network: the same as `ossnet predict`."""

from ossnet.commands.main import run_job

if __name__ == "__main__":
    run_job("predict")
