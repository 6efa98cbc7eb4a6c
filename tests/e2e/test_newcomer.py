"""The newcomer's walk: how it is judged, and that all its steps end as they should."""

import sys
from pathlib import Path

import pytest
from newcomer import Step, main, walk


def step(script: str, **more: object) -> Step:
    return Step("a step", (sys.executable, "-c", script), **more)  # type: ignore[arg-type]


def test_a_step_is_timed_and_judged(tmp_path: Path) -> None:
    script = (
        "import sys, time; print('begins', flush=True); time.sleep(1.5); print('Next: go on'); sys.exit(3)"
    )
    walked = walk(step(script, shows="Next: "), tmp_path)
    assert walked.silence_s > 1.4
    assert 0 < walked.first_s < walked.seconds - 1.4
    assert walked.text == "begins\nNext: go on\n"
    assert walked.faults(first_s=1e9, silence_s=1e9) == ["a step: exit code 3"]
    found = walked.faults(first_s=0.0, silence_s=1.0)
    assert [each.rpartition(": ")[2].split()[0] for each in found] == [
        "exit",
        f"{walked.first_s:.1f}",
        "silent",
    ]


def test_a_traceback_and_what_is_missing_are_faults(tmp_path: Path) -> None:
    walked = walk(step("raise SystemError", codes=frozenset({1}), shows="Dice"), tmp_path)
    assert walked.faults(first_s=1e9, silence_s=1e9) == [
        "a step: a traceback",
        "a step: no 'Dice' in its output",
    ]


@pytest.mark.slow
def test_every_step_of_a_newcomer_ends_as_it_should(shared: Path, tmp_path: Path) -> None:
    """On a clean clone of what is committed; how long anything takes depends on the machine."""
    options = [
        "--parts",
        "hippocampus",
        "mlflow",
        "--max-time",
        "1m",
        "--first-line",
        "1e9",
        "--silence",
        "1e9",
    ]
    code = main(["--data", str(shared / "data"), "--output", str(tmp_path), *options])
    transcript = (tmp_path / "transcript.md").read_text()
    assert code == 0, transcript
    assert transcript.count("\n## ") == 9
