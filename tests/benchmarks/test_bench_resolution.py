"""Memory over the resolution: predicted equals measured, crops are told apart, and the picture is drawn."""

from pathlib import Path

import pytest

from ossnet import planning
from ossnet.benchmarks import ResolutionBenchmarkConfig, measure_resolution
from ossnet.benchmarks.config import NetworksBenchmarkConfig
from ossnet.benchmarks.memory import resolution
from ossnet.benchmarks.memory.resolution import ResolutionResult, ResolutionRow, draw, show, summary
from ossnet.benchmarks.networks.measure import configure
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


def test_what_the_machine_has_no_room_for_is_only_predicted(monkeypatch: pytest.MonkeyPatch) -> None:
    predicted = planning.predict(configure("unet-3d", (32, 32, 32), NetworksBenchmarkConfig(dataset="brats")))
    for factor, runs in ((1.4, False), (1.6, True)):
        room = factor * predicted.allocated
        monkeypatch.setattr(resolution, "available_memory", lambda device, room=room: room)
        settings = ResolutionBenchmarkConfig(
            ("unet-3d",), ("32x32x32",), "32x32x32", inferred_up_to="8x8x8", device="cpu"
        )
        found = measure_resolution(settings, command="bench", progress=lambda row: None)
        assert (found.rows_of("training")[0].measured_bytes is not None) == runs


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
