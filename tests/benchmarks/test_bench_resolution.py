"""Memory over the resolution: predicted equals measured, crops are told apart, and the picture is drawn."""

from pathlib import Path

import pytest

from ossnet.benchmarks import ResolutionBenchmarkConfig, measure_resolution
from ossnet.benchmarks.memory.resolution import ResolutionResult, ResolutionRow, draw, show, summary
from ossnet.errors import UserError

ROOT = Path(__file__).parents[2]


def test_rows_are_predicted_and_measured_where_requested(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = ResolutionBenchmarkConfig(
        networks=("unet-3d",),
        shapes=("32x32x32", "64x32x32"),
        trained_up_to="32x32x32",
        inferred_up_to="8x8x8",
        crop="32x32x16",
        points=256,
        device="cpu",
    )
    reported = list[ResolutionRow]()
    found = measure_resolution(settings, command="bench", progress=reported.append)
    assert tuple(reported) == found.rows
    names = ["unet-3d", "unet-3d, crops"]
    training = found.rows_of("training")
    assert [row.network for row in training] == [*names, *names]
    assert [row.trains_on for row in training if row.network == names[1]] == [(32, 32, 16)] * 2
    for row in training:
        if row.shape == (32, 32, 32):
            assert row.measured_bytes == pytest.approx(row.predicted_bytes, rel=0.05)
        else:
            assert row.measured_bytes is None
    assert all(row.measured_bytes is None for row in found.rows_of("inference"))
    found.write(tmp_path / "resolution.json")
    assert ResolutionResult.read(tmp_path / "resolution.json") == found
    show(found)
    assert len(capsys.readouterr().out.splitlines()) == 1 + len(found.rows)
    assert draw(found).startswith(b"\x89PNG")
    assert "unet-3d, crops, 64x32x32, inference" in summary(found.rows[-1])


def test_the_kept_result_shows_what_the_readme_says() -> None:
    """The occupancy networks stay below the U-Net from 128^3 on, further below the larger the volume."""
    kept = ResolutionResult.read(ROOT / "docs" / "benchmarks" / "resolution.json")
    peaks = {(row.network, row.shape[0]): row.predicted_bytes for row in kept.rows_of("training")}
    for network in ("oss-net-c", "feature-query"):
        ratios = [peaks["unet-3d", edge] / peaks[network, edge] for edge in (128, 192, 256)]
        assert ratios == sorted(ratios)
        assert ratios[-1] > 3
    for row in kept.rows:
        if row.measured_bytes is not None:
            assert row.predicted_bytes == pytest.approx(row.measured_bytes, rel=0.03)


def test_what_cannot_be_measured_is_one_line() -> None:
    with pytest.raises(UserError, match="three positive edges"):
        ResolutionBenchmarkConfig(shapes=("64",))
