"""Lines for people while work goes on."""

import sys


def say(text: str) -> None:
    """Print a line at once, on the error stream: what is printed on the other one is the result."""
    print(text, file=sys.stderr, flush=True)
