"""A newcomer's way through the jobs, with a stop-watch, on a clean clone and real scans.

    python tests/e2e/newcomer.py --data SCANS --output NEW_FOLDER

`SCANS` holds `msd_hippocampus`, `brats2021` and `ct_liver`. Every step has to end as it should, print its
first line within 5 s and never be silent for longer than 30 s. `transcript.md` in the output has all that
was printed, and how long each step took: the demo has five minutes, a BraTS case fifteen to its prediction.
Nothing is installed: this interpreter has what the jobs need. The cluster that a search is submitted to is
started for it, on this machine.
"""

import argparse
import math
import os
import selectors
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from token_cluster import token_cluster

ROOT = Path(__file__).parents[2]
STEP_LIMIT_S = 1800.0
SUBMITTED = "5m"
"""The time of the search that is submitted: on a new cluster it has everything to make first."""
PART_LIMITS_S = {"demo": 300.0, "brats": 900.0}


@dataclass(frozen=True)
class Place:
    """Where somebody walks."""

    scans: Path
    """Folder of real scans."""
    clone: Path
    """The clone, in which all commands run."""
    max_time: str
    """Of every training and of every search."""

    @property
    def limits(self) -> tuple[str, ...]:
        """Options of every training and of every search."""
        return "--max-time", self.max_time, "--experiment", "walk"


@dataclass(frozen=True)
class Step:
    """A command of the walk."""

    name: str
    command: tuple[str, ...]
    codes: frozenset[int] = frozenset({0})
    """Exit codes that are right."""
    ours: bool = True
    """Whether its times count: other programs are as slow as they are."""
    shows: str = ""
    """What its output has to contain."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables in addition to, or instead of, those of all steps."""


@dataclass(frozen=True)
class Walked:
    """A step that was walked."""

    step: Step
    code: int
    seconds: float
    first_s: float
    """When the first line came."""
    silence_s: float
    """The longest time between two lines, and between the last one and the end."""
    text: str

    def faults(self, *, first_s: float, silence_s: float) -> list[str]:
        """What was not as it should be."""
        found = []
        if self.code not in self.step.codes:
            found.append(f"{self.step.name}: exit code {self.code}")
        if "Traceback (most recent call last)" in self.text:
            found.append(f"{self.step.name}: a traceback")
        if self.step.shows not in self.text:
            found.append(f"{self.step.name}: no {self.step.shows!r} in its output")
        if self.step.ours and self.first_s > first_s:
            found.append(f"{self.step.name}: {self.first_s:.1f} s to the first line")
        if self.step.ours and self.silence_s > silence_s:
            found.append(f"{self.step.name}: silent for {self.silence_s:.0f} s")
        return found


def job(name: str, *options: object, **more: object) -> Step:
    """A job of the clone."""
    title = f"{name} {more.pop('of')}" if "of" in more else name
    return Step(title, (sys.executable, f"jobs/{name}.py", *map(str, options)), **more)  # type: ignore[arg-type]


def demo(place: Place) -> Iterator[Step]:
    """What README begins with."""
    yield job("tune", of="(demo)", shows="Next: ossnet report")


def hippocampus(place: Place) -> Iterator[Step]:
    """Own scans in README's lines: from a folder to a prediction, a search and its report."""
    folder = place.scans / "msd_hippocampus"
    case = min((folder / "imagesTr").glob("*.nii.gz"))
    yield job("verify", "--source", folder, "--output", "runs/verified", codes=frozenset({0, 1}))
    yield job("prepare", "--source", folder, "--output", "runs/store", shows="Next: ossnet train")
    yield job("plan", "--data", "runs/store", "--model", "feature-query-patch")
    given = ("--data", "runs/store", "--model", "feature-query-patch", *place.limits)
    yield job("train", *given, "--output", "runs/train", shows="Dice")
    yield job("evaluate", "--checkpoint", "runs/train", "--data", "runs/store", "--output", "runs/evaluation")
    yield job("predict", "--checkpoint", "runs/train", "--input", case, "--output", "runs/predictions")
    budget = ("--memory-budget", "1GiB", *place.limits)
    yield job("tune", "--data", "runs/store", *budget, "--output", "runs/study", shows="Next: ossnet report")
    yield job("report", "--experiment", "walk", "--output", "runs/report")


def brats(place: Place) -> Iterator[Step]:
    """One case of four modalities at full size, to a prediction."""
    folder = place.scans / "brats2021"
    case = next(each for each in sorted(folder.iterdir()) if each.is_dir())
    found = ("--source", folder, "--output", "runs/brats-verified")
    yield job("verify", *found, codes=frozenset({0, 1}), of="(BraTS)")
    yield job("prepare", "--source", folder, "--output", "runs/brats", of="(BraTS)")
    given = ("--data", "runs/brats", "--model", "feature-query-patch", *place.limits)
    yield job("train", *given, "--output", "runs/brats-train", of="(BraTS)")
    of = ("--checkpoint", "runs/brats-train", "--input", case)
    yield job("predict", *of, "--output", "runs/brats-predictions", of="(BraTS)")
    of = ("--checkpoint", "runs/brats-train", "--data", "runs/brats", "--split", "training")
    yield job("evaluate", *of, "--output", "runs/brats-evaluation", of="(BraTS)")


def liver(place: Place) -> Iterator[Step]:
    """A CT and the labels of its organs, by a table that names files elsewhere."""
    table = ("--source", "ct.csv", "--allow-outside")
    folder = place.scans / "ct_liver"
    text = f"case,CT,label\\nct,{folder / 'ct.nii.gz'},{folder / 'organs.nii.gz'}\\n"
    write = f"import pathlib; pathlib.Path('ct.csv').write_text('{text}')"
    yield Step("a table of the CT", (sys.executable, "-c", write), ours=False)
    yield job("verify", *table, "--output", "runs/ct-verified", codes=frozenset({0, 1}), of="(CT)")
    yield job("prepare", *table, "--target", "foreground", "--output", "runs/ct", of="(CT)")
    given = ("--data", "runs/ct", "--model", "feature-query-patch", *place.limits)
    yield job("train", *given, "--output", "runs/ct-train", of="(CT)")
    of = ("--checkpoint", "runs/ct-train", "--input", folder / "ct.nii.gz")
    yield job("predict", *of, "--output", "runs/ct-predictions", of="(CT)")
    of = ("--checkpoint", "runs/ct-train", "--data", "runs/ct", "--split", "training")
    yield job("evaluate", *of, "--output", "runs/ct-evaluation", of="(CT)")


def mlflow(place: Place) -> Iterator[Step]:
    """MLflow's own command reads the store."""
    command = (str(Path(sys.executable).with_name("mlflow")), "experiments", "search")
    yield Step("mlflow", command, ours=False, shows="walk")


def submit(place: Place) -> Iterator[Step]:
    """A search on a cluster with a token, of the own scans where they were prepared before."""
    store = place.clone / "runs" / "store"
    data = ("--data", str(store)) if store.is_dir() else ()
    with token_cluster() as cluster:
        ray = ("ray", "job", "submit", "--address", cluster.address, "--working-dir", ".", "--")
        limits = ("--max-time", SUBMITTED, "--experiment", "submitted", "--output", "runs/submitted")
        search = ("python", "jobs/tune.py", *data, *limits)
        yield Step("submit", (*ray, *search), shows="succeeded", environment=cluster.environment)


PARTS: dict[str, Callable[[Place], Iterator[Step]]] = {
    "demo": demo,
    "hippocampus": hippocampus,
    "brats": brats,
    "ct": liver,
    "mlflow": mlflow,
    "submit": submit,
}


def walk(step: Step, folder: Path) -> Walked:
    """Run a step in a clone, and note when it prints."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith(("RAY_", "MLFLOW_"))}
    environment = kept | {
        "PYTHONPATH": str(folder),
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}",
        **step.environment,
    }
    began = last = time.monotonic()
    first, silence, chunks = None, 0.0, list[bytes]()
    with (
        subprocess.Popen(
            step.command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        ) as process,
        selectors.DefaultSelector() as selector,
    ):
        assert process.stdout is not None
        selector.register(process.stdout, selectors.EVENT_READ)
        while True:
            if not selector.select(began + STEP_LIMIT_S - time.monotonic()):
                process.terminate()
            chunk, now = os.read(process.stdout.fileno(), 1 << 16), time.monotonic()
            first = now - began if first is None else first
            silence, last = max(silence, now - last if chunks else 0.0), now
            if not chunk:
                break
            chunks.append(chunk)
        code = process.wait()
    text = b"".join(chunks).decode(errors="replace")
    return Walked(step, code, time.monotonic() - began, first or 0.0, silence, text)


def clone(target: Path) -> Path:
    """A clean clone of what is committed."""
    subprocess.run(["git", "clone", "--quiet", "--no-hardlinks", str(ROOT), str(target)], check=True)
    return target


def transcript(walked: Sequence[Walked], faults: Sequence[str]) -> str:
    """The walk as Markdown: a table of times, then all that was printed."""
    lines = [
        "# A newcomer's walk",
        "",
        "| step | exit | s | first line, s | longest silence, s |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {each.step.name} | {each.code} | {each.seconds:.0f} | {each.first_s:.1f} | {each.silence_s:.0f} |"
        for each in walked
    ]
    lines += ["", *([f"- {fault}" for fault in faults] or ["All as it should be."])]
    for each in walked:
        command = shlex.join(["python" if word == sys.executable else word for word in each.step.command])
        lines += ["", f"## {each.step.name}", "", "```", f"$ {command}", each.text.rstrip(), "```"]
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Walk; 0 where all was as it should be."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of real scans")
    parser.add_argument(
        "--output", type=Path, required=True, help="new folder for the clone and the transcript"
    )
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--max-time", default="2m", help="of every training and of the search")
    parser.add_argument("--first-line", type=float, default=5.0, help="s, at most")
    parser.add_argument("--silence", type=float, default=30.0, help="s, at most")
    options = parser.parse_args(arguments)
    place = Place(options.data.absolute(), clone(options.output / "clone").absolute(), options.max_time)
    walked, faults = list[Walked](), list[str]()
    for part in options.parts:
        before = len(walked)
        for step in PARTS[part](place):
            walked.append(walk(step, place.clone))
            new = walked[-1].faults(first_s=options.first_line, silence_s=options.silence)
            print(
                f"{step.name}: exit {walked[-1].code} after {walked[-1].seconds:.0f} s",
                *new,
                sep="\n  ",
                flush=True,
            )
            faults += new
            (options.output / "transcript.md").write_text(transcript(walked, faults))
        taken_s = sum(each.seconds for each in walked[before:])
        if taken_s > PART_LIMITS_S.get(part, math.inf):
            faults.append(f"{part}: {taken_s:.0f} s, of {PART_LIMITS_S[part]:.0f}")
    (options.output / "transcript.md").write_text(transcript(walked, faults))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
