"""jobs/bench.py on tiny volumes."""

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from PIL import Image

from ossnet.benchmarks.input.nnunet_samples import nnunet_import_error

Job = Callable[..., CompletedProcess[str]]
TINY = ("--networks", "o-net", "unet-3d", "--shapes", "16x16x16", "--points", 8, "--repeats", 1)


def test_models_in_a_table(run_job: Job, tmp_path: Path) -> None:
    done = run_job("bench", "models", *TINY, "--device", "cpu", "--output", "bench")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("network")
    assert [line.split()[0] for line in lines[1:3]] == ["o-net", "unet-3d"]
    assert "models.png" in lines[-1]
    kept = json.loads((tmp_path / "bench" / "models.json").read_text())
    assert [row["status"] for row in kept["rows"]] == ["measured", "measured"]
    assert kept["command"].endswith("--device cpu --output bench")
    with Image.open(tmp_path / "bench" / "models.png") as picture:
        assert len(picture.convert("RGB").getcolors(1 << 24)) > 10


def test_models_as_json(run_job: Job, tmp_path: Path) -> None:
    done = run_job("bench", *TINY[3:], "--networks", "unet-2d", "--device", "cpu", "--json")
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    printed = json.loads(line)
    files = printed.pop("files")
    assert json.loads((tmp_path / files["result"]).read_text()) == printed
    assert (tmp_path / files["figure"]).is_file()


INPUT = ("--cases", 1, "--shape", "20x18x16", "--networks", "oss-net-a", "--points", 50, "--repeats", 1)
INPUT += ("--step-s", 0.02, 0.01)


def test_input_in_tables(run_job: Job, tmp_path: Path) -> None:
    done = run_job("bench", "input", *INPUT, "--output", "bench")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].split()[:2] == ["network", "pipeline"]
    pipelines = ["ossnet", "nibabel", "monai", "monai-threads"]
    if nnunet_import_error() is None:
        pipelines.append("nnunet")
    shown = [line.split()[:2] for line in lines[1 : len(pipelines) + 1]]
    assert shown == [["oss-net-a", way] for way in pipelines]
    kept = json.loads((tmp_path / "bench" / "input.json").read_text())
    assert [row["pipeline"] for row in kept["rows"]] == pipelines
    assert kept["command"].endswith("--output bench")
    with Image.open(tmp_path / "bench" / "input.png") as picture:
        assert len(picture.convert("RGB").getcolors(1 << 24)) > 10


@pytest.mark.slow
def test_searches(run_job: Job, tmp_path: Path) -> None:
    options = ("--methods", "optuna-fitted,random", "--time-per-study", "15s", "--seeds", 1)
    done = run_job("bench", "search", *options, "--output", "bench")
    assert done.returncode == 0, done.stderr
    kept = json.loads((tmp_path / "bench" / "search.json").read_text())
    fitted, random = kept["rows"]
    assert (fitted["method"], random["method"]) == ("optuna-fitted", "random")
    assert all(trial["memory_gib"] <= kept["budget_gib"] for trial in fitted["trials"])
    assert all(0 < row["search_s"] < row["cpu_s"] < 20 for row in kept["rows"])
    assert max(each["dice"] for trial in random["trials"] for each in trial["validations"]) > 0.3
    before = (tmp_path / "bench" / "search.json").read_bytes()
    again = run_job("bench", "search", *options, "--output", "bench")
    assert again.stdout.splitlines()[:3] == done.stdout.splitlines()[:3]
    assert (tmp_path / "bench" / "search.json").read_bytes() == before
    with Image.open(tmp_path / "bench" / "search.png") as picture:
        assert len(picture.convert("RGB").getcolors(1 << 24)) > 10


@pytest.mark.slow
def test_inference_in_tables(run_job: Job, tmp_path: Path) -> None:
    tiny = ("--shapes", "64x48x48", "--methods", "hierarchical", "--precision", "float32")
    done = run_job("bench", "inference", *tiny, "--networks", "oss-net-c", "--output", "bench")
    assert done.returncode == 0, done.stderr
    header, row, *_ = done.stdout.splitlines()
    assert header.split()[:3] == ["network", "shape", "method"]
    assert row.split()[:4] == ["oss-net-c", "64x48x48", "hierarchical", "float32"]
    kept = json.loads((tmp_path / "bench" / "inference.json").read_text())
    assert kept["rows"][0]["wrong"] == 0
    with Image.open(tmp_path / "bench" / "inference.png") as picture:
        assert len(picture.convert("RGB").getcolors(1 << 24)) > 10


def test_memory_in_tables(run_job: Job, tmp_path: Path) -> None:
    options = ("--networks", "unet-2d", "--draws", 2, "--device", "cpu")
    done = run_job("bench", "memory", *options, "--output", "bench")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split()[:2] for line in lines[:2]] == [["network", "draws"], ["unet-2d", "2"]]
    assert "error" in done.stdout
    kept = json.loads((tmp_path / "bench" / "memory.json").read_text())
    assert len(kept["rows"]) == 2
    with Image.open(tmp_path / "bench" / "memory.png") as picture:
        assert len(picture.convert("RGB").getcolors(1 << 24)) > 10


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("model",), "expected a known command, found 'model'; did you mean 'models'?"),
        (("memory", "--draws", 0), "draws: expected at least 1, found 0"),
        (("input", "--networks", "unet-3d"), "networks: expected occupancy networks, which train on points"),
        (("input", "--source", "nowhere"), "nowhere"),
        (
            ("models", "--networks", "unet-4d"),
            "expected a known network, found 'unet-4d'; did you mean 'unet-",
        ),
        (("models", "--shapes", "64x64"), "expected three positive edges in voxels, as in 64x64x64"),
        (("models", "--shapes", "64x64x0"), "expected three positive edges in voxels, as in 64x64x64"),
        (("models", "--point", 5), "--points"),
        (("search", "--seeds", 0), "seeds: expected at least 1, of at least one method, found 0"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    run_job: Job, tmp_path: Path, options: tuple[object, ...], message: str
) -> None:
    done = run_job("bench", *options)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())
