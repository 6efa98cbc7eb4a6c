"""Memory over the number of classes: the comparison itself, and the run that the documentation shows."""

from pathlib import Path

import pytest

from ossnet.benchmarks import ClassesBenchmarkConfig, measure_classes
from ossnet.benchmarks.memory.classes import ClassesResult, ClassesRow, draw, show, summary
from ossnet.errors import UserError

ROOT = Path(__file__).parents[2]


def test_rows_are_predicted_and_measured_where_requested(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = ClassesBenchmarkConfig(
        networks=("feature-query", "unet-3d"),
        classes=(2, 40),
        measured=(40,),
        shape="64x64x64",
        crop="32x32x16",
        points=256,
        device="cpu",
    )
    reported = list[ClassesRow]()
    found = measure_classes(settings, command="bench", progress=reported.append)
    assert tuple(reported) == found.rows
    assert [(row.network, row.classes, row.trains_on) for row in found.rows] == [
        ("feature-query", 2, "64x64x64"),
        ("feature-query", 40, "64x64x64"),
        ("unet-3d", 2, "32x32x16"),
        ("unet-3d", 40, "32x32x16"),
    ]
    for row in found.rows:
        assert sum(row.parts.values()) == row.predicted_bytes
    measured = [row.measured_bytes for row in found.rows]
    assert measured[0] is measured[2] is measured[3] is None
    assert measured[1] == pytest.approx(found.rows[1].predicted_bytes, rel=0.03)
    found.write(tmp_path / "classes.json")
    assert ClassesResult.read(tmp_path / "classes.json") == found
    show(found)
    assert len(capsys.readouterr().out.splitlines()) == 5
    assert draw(found).startswith(b"\x89PNG")
    assert "40 classes" in summary(found.rows[1])


def test_the_kept_result_holds_the_promise() -> None:
    """117 classes at 192^3 are measured, within the limits that the project set itself."""
    kept = ClassesResult.read(ROOT / "docs" / "benchmarks" / "classes.json")
    rows = {(row.network, row.classes): row for row in kept.rows}
    for network, limit in (("oss-net-c", 1.2e9), ("feature-query", 0.45e9)):
        measured = rows[network, 117].measured_bytes
        assert measured is not None
        assert measured <= limit
        assert rows[network, 117].predicted_bytes == pytest.approx(measured, rel=0.02)
    assert rows["unet-3d", 117].predicted_bytes > 6e9


def test_what_cannot_be_measured_is_one_line() -> None:
    with pytest.raises(UserError, match="classes: expected at least 1"):
        ClassesBenchmarkConfig(classes=(0,))
