"""The command that a job prints at its end gives a shell the arguments that were meant."""

import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ossnet.commands import verify
from ossnet.commands._output import command_line, finish
from ossnet.data import write_phantom

NAMES = [
    "plain",
    "two words",
    "it's",
    'a "quoted" one',
    "$HOME",
    "`date`",
    "$(date)",
    "a;b & c | d > e",
    "back\\slash\\",
    "*.nii[0-9]?",
    "~",
    "-dash",
    "!!",
    "[bold]name[/bold]",
    "a:heart:b",
    "tab\tin it",
    "new\nline",
    "ü 肝臓 😀",
    "x" * 255,
    "",
]


def as_a_shell_reads(line: str) -> list[str]:
    """The arguments that bash passes to `ossnet`."""
    script = f"ossnet() {{ printf '%s\\0' \"$@\"; }}\n{line}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, check=True)
    return done.stdout.decode().split("\0")[:-1]


def printed(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().out.partition("\nNext: ")[2]


@pytest.mark.parametrize("name", NAMES)
def test_a_shell_reads_any_name_as_it_is(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    finish({"store": name}, follow_up=command_line("train", "--data", Path("/data") / name, name))
    assert as_a_shell_reads(printed(capsys)) == ["train", "--data", str(Path("/data") / name), name]


@settings(max_examples=20)
@given(
    words=st.lists(st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0")), max_size=4)
)
def test_a_shell_reads_any_words(words: list[str]) -> None:
    assert as_a_shell_reads(command_line("train", *words)) == ["train", *words]


@pytest.mark.parametrize("name", ["it's $HOME", 'a "b" :heart:', "[red] & `x`"])
def test_what_verify_prints_next_names_the_folder(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scans = write_phantom(tmp_path / name, cases=2, shape=(10, 10, 8), modalities=("FLAIR",))
    with pytest.raises(SystemExit) as end:
        verify.main(["--source", str(scans), "--output", str(tmp_path / "found")])
    assert end.value.code == 0
    line = printed(capsys).splitlines()[0]
    assert as_a_shell_reads(line) == ["prepare", "--source", str(scans), "--output", "runs/store"]
