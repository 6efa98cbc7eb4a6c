"""Score a trained network on a store's cases: the same as `ossnet evaluate`."""

from ossnet.commands.main import run_job

if __name__ == "__main__":
    run_job("evaluate")
