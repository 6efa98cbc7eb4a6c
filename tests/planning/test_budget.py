"""What fits a budget, and how running out of memory is reported."""

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ossnet.config import Config
from ossnet.errors import OutOfMemory
from ossnet.inference.query.boxes import boxes
from ossnet.inference.query.encoded_volume import EncodedVolume
from ossnet.models import OccupancyNetwork, network_config, network_from_config
from ossnet.models.kernels._fake import FakeTensorMode
from ossnet.planning import oom, predict
from ossnet.planning.budget import max_fitting, max_sizes, smallest_gpu
from ossnet.planning.estimate import estimate_memory
from ossnet.planning.estimator import PeakEstimator
from ossnet.planning.inference import measure_inference, predict_inference
from ossnet.planning.margin import GB, MARGIN
from ossnet.planning.oom import check_memory, memory_saving_options, out_of_memory_error, reraise_oom
from ossnet.planning.report import Report

SHAPE = (32, 32, 16)


def configured(name: str, **changes: Any) -> Config:
    small: dict[str, Any] = {"channels": (4, 8)} if "unet" in name else {
        "encoder_channels": (4,), "decoder_width": 16, "decoder_blocks": 2, "patch_edge": 3,
        "latent_grid": (2, 2, 2)
    }  # fmt: skip
    dotted = {path.replace("__", "."): value for path, value in changes.items()}
    return Config(model=network_config(name, in_channels=2, **small)).replace(
        {"sampling.working_shape": [*SHAPE], "training.batch_size": 2, "sampling.points": 128, **dotted}
    )


@given(
    st.integers(0, 5000),
    st.floats(1, 1000),
    st.sampled_from([1, 2, 3]),
    st.integers(1, 10**7),
    st.integers(1, 300),
)
def test_the_largest_is_found_in_few_tries(
    fixed: int, slope: float, power: int, budget: int, start: int
) -> None:
    tried = []

    def peak(size: int) -> int:
        tried.append(size)
        return int(fixed + slope * size**power)

    found = max_fitting(peak, budget, start, 4000)
    fitting = [size for size in range(1, 4001) if fixed + slope * size**power < budget + 1]
    assert (found is None) == (not fitting)
    if found is not None:
        assert found <= fitting[-1]
        assert found == fitting[-1] or found + max(1, found // 32) > fitting[-1]
    assert len(tried) <= 30


def test_max_sizes_are_what_just_fits() -> None:
    config = configured("oss-net-a")
    budget = MARGIN.needed(2 * predict(config).allocated)
    estimator = PeakEstimator()
    found = max_sizes(config, budget, estimator)
    assert found.batch is not None
    for batch, fits in ((found.batch, True), (found.batch + 1, False)):
        needed = MARGIN.needed(estimator.training(config.replace({"training.batch_size": batch})).allocated)
        assert (needed <= budget) == fits
    assert found.points is not None
    assert found.points > 128
    assert found.shape is not None
    assert found.shape >= (32, 32, 16)
    assert max_sizes(configured("unet-3d"), 1, PeakEstimator()).batch is None


def test_a_deep_network_is_not_asked_for_a_grid_of_one_cell() -> None:
    config = configured("unet-3d", model__channels=(2, 2, 2, 2, 2), sampling__working_shape=(64, 48, 48))
    smallest = config.replace({"sampling.working_shape": (32, 32, 32)})
    estimator = PeakEstimator()
    needed = MARGIN.needed(estimator.training(smallest).allocated)
    assert max_sizes(config, needed, estimator).shape == (32, 32, 32)
    assert max_sizes(config, needed // 2, estimator).shape is None


def test_fewer_volumes_than_parts_are_a_size_too() -> None:
    config = configured("oss-net-a", training__batch_size=4, training__accumulation_steps=4)
    one = config.replace({"training.batch_size": 1, "training.accumulation_steps": 1})
    found = max_sizes(config, MARGIN.needed(predict(one).allocated), PeakEstimator())
    assert found.batch is not None


def test_gpus_by_size() -> None:
    assert smallest_gpu(1) == 8 * GB
    assert smallest_gpu(8 * GB + 1) == 12 * GB
    assert smallest_gpu(200 * GB) is None


@pytest.mark.parametrize(
    ("name", "crop"),
    [
        ("oss-net-d", None),
        ("feature-query", None),
        ("unet-3d", None),
        ("unet-3d", (16, 16, 16)),
        ("unet-2d", None),
        ("unet-2d", (16, 32, 16)),
    ],
)
def test_inference_is_predicted(name: str, crop: tuple[int, int, int] | None) -> None:
    config = configured(name, inference__points_per_chunk=3000, sampling__crop_shape=crop)
    assert predict_inference(config).allocated == pytest.approx(
        measure_inference(config, device="cpu").allocated
    )


def test_on_fake_tensors_two_boxes_stand_for_all() -> None:
    """Otherwise the memory of inference takes minutes to predict where the volume is large."""
    model = configured("oss-net-d").model
    with FakeTensorMode():
        network, image = network_from_config(model).eval(), torch.zeros(2, *SHAPE)
        assert isinstance(network, OccupancyNetwork)
        assert len([*EncodedVolume(network, image, working=SHAPE, chunk=64).boxes()]) == 2
    assert len([*boxes(SHAPE, 64)]) > 100


def test_out_of_memory_names_peaks_and_the_best_change() -> None:
    config = configured("unet-3d", training__batch_size=8)
    text = str(out_of_memory_error(config, measured_gib=0.25, workers=1))
    peaks = {
        key: predict(config.replace(new)).allocated
        for key, new in memory_saving_options(config, workers=1).items()
    }
    assert len(peaks) == 4
    assert [*memory_saving_options(configured("oss-net-a"), workers=1)] == [
        "--training.batch-size 1",
        "--training.precision bf16",
        "--sampling.points 64",
        "--model.checkpoint-activations",
        "--model.decoder-width 8",
    ]
    best = min(peaks, key=lambda option: peaks[option])
    assert f"use {best}, which is predicted to take" in text
    assert "measured: 0.25 GiB" in text
    assert f"a predicted peak of {predict(config).allocated / 2**30:.3g} GiB" in text
    assert "\n" not in text


def test_what_cannot_fit_is_rejected_before_it_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    config = configured("unet-3d", training__batch_size=8)
    needs = predict(config).allocated
    assert check_memory(config, torch.device("cpu"), workers=1) == needs / 2**30
    monkeypatch.setattr(oom, "available_memory", lambda _: needs - 1)
    with pytest.raises(
        OutOfMemory, match=r"at most .* GiB a worker, found a predicted peak of .* GiB a worker; use --"
    ):
        check_memory(config, torch.device("cpu"), workers=1)
    assert check_memory(config, torch.device("cpu"), workers=2) < needs / 2**30


def test_a_peak_that_is_known_is_not_predicted_again(monkeypatch: pytest.MonkeyPatch) -> None:
    config, cpu = configured("unet-2d"), torch.device("cpu")
    monkeypatch.setattr(oom, "available_memory", lambda _: 2**30)
    assert check_memory(config, cpu, workers=1, predicted_gib=0.125) == 0.125
    with pytest.raises(OutOfMemory):
        check_memory(config, cpu, workers=1, predicted_gib=1.125)


def test_what_takes_no_memory_is_predicted_once() -> None:
    estimator, config = PeakEstimator(), configured("unet-3d")
    other = config.replace({"optimizer.learning_rate": 1e-5, "training.seed": 3, "training.epochs": 7})
    assert estimator.training(config) is estimator.training(other)
    assert estimator.inference(config) is estimator.inference(other)
    larger = config.replace({"training.batch_size": 3})
    assert estimator.training(larger).allocated > estimator.training(config).allocated
    assert estimator.gib(larger) == predict(larger).allocated_gib


@pytest.mark.parametrize(
    "failure", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")]
)
def test_every_way_to_run_out_of_memory_is_reported(failure: Exception) -> None:
    with (
        pytest.raises(OutOfMemory, match="out of memory: a training step of unet-2d"),
        reraise_oom(configured("unet-2d"), workers=1, measured_gib=lambda: None),
    ):
        raise failure


def test_other_errors_are_left_alone() -> None:
    with (
        pytest.raises(RuntimeError, match=r"^something else$"),
        reraise_oom(configured("unet-2d"), workers=1, measured_gib=lambda: None),
    ):
        raise RuntimeError("something else")


def test_a_report_says_what_fits(tmp_path: Path) -> None:
    config = configured("unet-2d")
    report = Report(
        budget=GB, estimates=(estimate_memory(config, PeakEstimator(), name="small", measured=True),)
    )
    assert report.fit_line() == "1 of 1 (100%) fit a GPU of 8 GB, 1 of 1 (100%) fit a GPU of 1 GB"
    full = report.with_scaling(config, PeakEstimator(), tmp_path / "plan")
    assert full.figure is not None
    assert full.figure.read_bytes().startswith(b"\x89PNG")
    assert [curve.network for curve in full.scaling] == ["unet-3d", "unet-2d"]
    for curve in full.scaling:
        assert list(curve.gib) == sorted(curve.gib)
    assert full.to_dict()["fitting_fractions"] == {"8GB": 1.0, "budget": 1.0}
