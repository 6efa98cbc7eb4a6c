"""What methods lose on trained networks: counted against the dense prediction, one row a case and method."""

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ossnet.benchmarks import MethodRow, MethodsBenchmarkConfig, MethodsResult, measure_methods
from ossnet.benchmarks.methods.measure import lost_components
from ossnet.benchmarks.methods.results import draw, show, summary
from ossnet.config import Config
from ossnet.data import Store
from ossnet.data.labels.scheme import ClassScheme
from ossnet.errors import UserError
from ossnet.inference import Predictor
from ossnet.models import network_from_config
from ossnet.training.checkpoint import save_checkpoint


@pytest.fixture(scope="module")
def u_net(phantom_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of an untrained U-Net for the phantom."""
    store = Store.open(phantom_store)
    config = Config.preset("unet-2d", store).resolve_for(store)
    documents = {"config.json": config.to_json(), "task.json": json.dumps(store.task.to_dict())}
    folder = tmp_path_factory.mktemp("unet")
    torch.manual_seed(0)
    save_checkpoint(folder / "a", network=network_from_config(config.model), documents=documents, state={})
    return folder / "a"


@pytest.fixture(scope="module")
def rows() -> list[MethodRow]:
    return []


@pytest.fixture(scope="module")
def result(
    phantom_store: Path, phantom_checkpoint: Path, u_net: Path, rows: list[MethodRow]
) -> MethodsResult:
    settings = MethodsBenchmarkConfig(split="training", cases=2, methods=("paper", "dense"))
    return measure_methods(
        settings,
        [phantom_checkpoint, u_net],
        Store.open(phantom_store),
        command="ossnet bench methods",
        progress=rows.append,
    )


def test_every_case_is_predicted_by_every_network_and_method(
    result: MethodsResult, rows: list[MethodRow], phantom_store: Path
) -> None:
    assert list(result.rows) == rows
    first, second, *_ = Store.open(phantom_store).split("training")
    assert [(row.network, row.method, row.case) for row in rows] == [
        ("oss-net-a", "dense", first),
        ("oss-net-a", "paper", first),
        ("unet-2d", "windows", first),
        ("oss-net-a", "dense", second),
        ("oss-net-a", "paper", second),
        ("unet-2d", "windows", second),
    ]
    assert [row.checkpoint for row in rows[1:3]] == [rows[0].checkpoint, "a"]
    assert rows[0].checkpoint.startswith("run")  # the folder of the run, not that of its weights
    assert all(row.seconds > 0 for row in rows)
    assert result.clock == "CPU seconds"


def test_what_differs_is_counted_against_the_dense_prediction(
    result: MethodsResult, phantom_store: Path, phantom_checkpoint: Path
) -> None:
    dense, paper, u_net, *_ = result.rows
    image = torch.from_numpy(Store.open(phantom_store).case(dense.case).image.astype(np.float32))
    found = {
        name: Predictor.from_checkpoint(phantom_checkpoint, method=name).predict(image)
        for name in ("dense", "paper")
    }
    assert dense.shape == tuple(image.shape[1:])
    assert dense.decided == u_net.decided == dense.voxels == image[0].numel()
    assert paper.decided == found["paper"].n_queried < dense.decided
    assert dense.foreground == paper.foreground == int(found["dense"].classes.count_nonzero()) > 0
    assert paper.differing == int((found["dense"].classes != found["paper"].classes).sum())
    assert (dense.differing, dense.lost, u_net.differing, u_net.lost) == (0, 0, 0, 0)
    assert dense.components == paper.components > 0


@given(st.data(), st.booleans())
def test_a_component_is_lost_where_none_of_its_voxels_is_found(
    data: st.DataObject, overlapping: bool
) -> None:
    """Cubes well apart, some of which another class takes the place of, or nothing, or a single voxel."""
    kinds = data.draw(st.lists(st.sampled_from(["kept", "voxel", "gone", "other"]), min_size=1, max_size=5))
    scheme = ClassScheme(2, overlapping)
    dense = torch.zeros(4 * len(kinds), 4, 4, dtype=torch.uint8)
    found = dense.clone()
    for place, kind in enumerate(kinds):
        cube = (slice(4 * place, 4 * place + 2), slice(0, 2), slice(0, 2))
        dense[cube] = 1
        if kind in ("kept", "other"):
            found[cube] = 1 if kind == "kept" else 2
        elif kind == "voxel":
            found[4 * place, 0, 0] = 1
    lost = sum(kind in ("gone", "other") for kind in kinds)
    assert lost_components(scheme, dense, found) == (len(kinds), lost)


def test_json_table_and_picture(
    result: MethodsResult, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "methods.json"
    result.write(path)
    assert MethodsResult.read(path) == result
    rows = [replace(row, components=4, lost=int(row.method == "paper")) for row in result.rows]
    lost = replace(result, rows=tuple(rows))
    show(lost)
    header, dense, paper, u_net = capsys.readouterr().out.splitlines()
    assert header.split()[-6:] == ["components", "lost", "differ", "s", "a", "case"]
    assert [line.split()[-7] for line in (dense, paper, u_net)] == ["2", "2", "2"]
    assert [line.split()[-4:-2] for line in (dense, paper)] == [["8", "0"], ["8", "2"]]
    assert " 1 of 4 components lost, " in summary(lost.rows[1])
    with Image.open(io.BytesIO(draw(result))) as picture:
        assert len(np.unique(np.asarray(picture.convert("L")))) > 10


def test_what_cannot_be_compared_is_rejected_at_first(
    phantom_store: Path, phantom_checkpoint: Path, u_net: Path
) -> None:
    store = Store.open(phantom_store)
    shown = list[MethodRow]()

    def measure(**fields: object) -> None:
        settings = MethodsBenchmarkConfig(**fields)
        measure_methods(settings, [u_net, phantom_checkpoint], store, command="", progress=shown.append)

    with pytest.raises(UserError, match="methods: expected networks with a coarse prediction"):
        measure(methods=("paper-guided",))
    with pytest.raises(UserError, match="cases: expected at least 1, found 0"):
        measure(cases=0)
    with pytest.raises(UserError, match="methods: expected one or more, found none"):
        measure(methods=())
    with pytest.raises(UserError, match="checkpoint: expected folders of different names, found a, a"):
        measure_methods(MethodsBenchmarkConfig(), [u_net, u_net], store, command="", progress=shown.append)
    assert shown == []
