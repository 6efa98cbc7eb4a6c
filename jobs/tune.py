"""Search a space of networks and settings: the same as `ossnet tune`."""

from ossnet.commands.main import run_job

if __name__ == "__main__":
    run_job("tune")
