"""Whatever a user calls cases, classes, modalities and experiments: every metric and file, or a refusal."""

import tempfile
import unicodedata
from pathlib import Path

import named_anything
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from named_anything import CASES, CHANNELS, LABELS, Names

from ossnet.data import Store
from ossnet.distributed.tracking.client import TrackingConfig
from ossnet.errors import UserError, printable

WORDS = [
    "MRI",
    "mri",
    "Kidney (left)",
    "kidney-(left)",
    "a/b",
    "../../x",
    "..",
    ".",
    "",
    " ",
    "CON",
    "-x",
    "~",
    "$x^{$",
]
ANY = st.text(st.characters(exclude_categories=()), max_size=40)


def variants(text: str) -> list[str]:
    """Names that are easily mistaken for another one."""
    return [
        text.upper(),
        text.swapcase(),
        f" {text}",
        f"{text}.",
        unicodedata.normalize("NFD", text),
        f"{text}~",
    ]


@st.composite
def several(draw: st.DrawFn, count: int, *, distinct: bool) -> list[str]:
    """So many names, some of which nearly collide; the keys of an object differ."""
    first = draw(
        st.lists(st.sampled_from(WORDS) | ANY | ANY.map(lambda text: text * 9), min_size=2, max_size=2)
    )
    near = [variant for text in first for variant in variants(text)]
    more = st.lists(st.sampled_from([*near, *WORDS]) | ANY, min_size=count, max_size=count, unique=distinct)
    return [text[:300] for text in draw(more)]


NAMES = st.builds(
    Names,
    cases=several(CASES, distinct=True),
    labels=several(LABELS, distinct=True),
    channels=several(CHANNELS, distinct=False),
    experiment=st.sampled_from(WORDS) | ANY,
)

HOSTILE = Names(
    cases=["../../x", "a" * 300, "C:\\scans\\1", "nul", "ü/Ü"],
    labels=["Kidney (left)", "kidney-(LEFT)", "$\\frac{1}$", "😀" * 60, "50 %", "肝臓/腫瘍"],
    channels=["MRI", "mri", "MRI "],
    experiment="$x^{$ it's 100% 'q' <b>",
)
COLLIDING = Names(
    cases=["Ä", "A\u0308", "ä", "a\u0308", "a~"],
    labels=["Lesion", "lesion", "LESION", "le sion", "le-sion", "straße"],
    channels=["T1", "t1w", "T1n"],
    experiment="",
)
EMPTY = Names(
    cases=["", ".", "..", "-", "\x00"],
    labels=["", ".", "..", "-", "\u200b", "\udce9"],
    channels=["", "", " "],
    experiment="\udce9\x00",
)


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scans")
    named_anything.write_scans(folder)
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


def check(names: Names, scans: Path, runs: Path) -> Store:
    """Go from the scans to the report.

    Raises:
        UserError: a refusal, before anything was written.
    """
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        (folder / "source").mkdir()
        source = named_anything.describe(names, scans, folder / "source")
        try:
            store = named_anything.prepare(source, folder / "store")
        except UserError:
            assert not (folder / "store").exists()
            raise
        # A table's cells are read without the blanks around them.
        assert set(store.manifest.cases) == {printable(case.strip()) for case in names.cases}
        classes = store.task.class_names
        assert len({name.casefold() for name in classes}) == LABELS
        assert len({name.casefold() for name in store.task.modalities}) == CHANNELS
        tracking = TrackingConfig.at(runs, names.experiment)
        metrics = named_anything.train(store, folder / "checkpoint", tracking)
        assert {f"dice/val/{name}" for name in classes} <= metrics
        outputs = named_anything.predict(source, folder / "checkpoint", folder / "predictions")
        assert outputs.keys() == set(store.manifest.cases)
        assert len({unicodedata.normalize("NFC", path.name).casefold() for path in outputs.values()}) == CASES
        assert all(path.is_file() and path.parent == folder / "predictions" for path in outputs.values())
        assert named_anything.report(tracking, folder / "report", names.experiment) >= 1
        there = {"source", "store", "checkpoint", "predictions", "report"}
        assert {entry.name for entry in folder.iterdir()} == there
        return store


@pytest.mark.parametrize("names", [HOSTILE, COLLIDING, EMPTY], ids=["hostile", "colliding", "empty"])
def test_names_that_have_caused_losses_give_everything(names: Names, scans: Path, runs: Path) -> None:
    check(names, scans, runs)


def check_or_refuse(names: Names, scans: Path, runs: Path) -> None:
    try:
        check(names, scans, runs)
    except UserError:
        return


@settings(max_examples=3, phases=(Phase.generate,), suppress_health_check=list(HealthCheck))
@given(names=NAMES)
def test_any_names_give_everything_or_are_refused_before(names: Names, scans: Path, runs: Path) -> None:
    check_or_refuse(names, scans, runs)


@pytest.mark.slow
@settings(max_examples=150, suppress_health_check=list(HealthCheck))
@given(names=NAMES)
def test_many_names_give_everything_or_are_refused_before(names: Names, scans: Path, runs: Path) -> None:
    check_or_refuse(names, scans, runs)
