import os
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest

from ossnet.data import PrepareConfig, Store, write_phantom
from ossnet.data.prepare import plan, survey
from ossnet.distributed.data.prepare import prepare
from ossnet.distributed.data.sharding import DeterministicSharding, reference_dataset, shard_references
from ossnet.errors import UserError
from ossnet.output.claim import MARKER
from ossnet.sampling.sampler import batch_order
from ossnet.training import TrainingConfig

pytestmark = pytest.mark.usefixtures("cluster")

TRAINING = TrainingConfig(epochs=3, batch_size=4, seed=5)


def _stored(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and path.name != MARKER]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in _stored(folder)}


def spoil_label(path: Path) -> None:
    image = nibabel.load(path)
    label = np.asarray(image.dataobj).copy()
    label[0, 0, 0] = 9
    nibabel.save(nibabel.Nifti1Image(label, image.affine, image.header), path)


def test_the_store_is_the_one_a_loop_makes_and_is_made_once(phantom_store, tmp_path):
    config = PrepareConfig(phantom_store.parent / "source", tmp_path / "store")
    report = prepare(config)
    assert (report.prepared, report.cases, report.excluded) == (10, 10, {})
    assert report.splits == {"training": 8, "validation": 2, "test": 0}
    assert report.voxel_megabytes == pytest.approx(10 * 28 * 26 * 22 * (4 * 2 + 1) / 1e6)
    assert contents(config.output) == contents(phantom_store)
    files = {path: path.stat().st_mtime_ns for path in _stored(config.output)}
    again = prepare(config)
    assert (again.prepared, again.splits) == (0, report.splits)
    assert {path: path.stat().st_mtime_ns for path in _stored(config.output)} == files


def test_paths_are_relative_to_the_drivers_folder_not_to_its_workers(phantom_store, tmp_path, monkeypatch):
    monkeypatch.chdir(phantom_store.parent)  # Ray was started elsewhere
    output = Path(os.path.relpath(tmp_path / "store"))
    report = prepare(PrepareConfig(Path("source"), output))
    assert (report.prepared, report.excluded) == (10, {})
    assert contents(output) == contents(phantom_store)


def test_bad_cases_are_excluded_or_fatal(tmp_path, capsys):
    scans = write_phantom(tmp_path / "scans", cases=4, shape=(16, 16, 16))
    spoil_label(scans / "labelsTr" / "phantom_001.nii.gz")
    image = scans / "imagesTr" / "phantom_002.nii.gz"
    image.write_bytes(image.read_bytes()[:-500])
    strict = PrepareConfig(scans, tmp_path / "strict", strict=True)
    with pytest.raises(UserError, match=r"phantom_00[12].nii.gz: expected .*, found "):
        prepare(strict)
    assert not strict.output.exists()
    config = PrepareConfig(scans, tmp_path / "store")
    report = prepare(config)
    assert sorted(report.excluded) == ["phantom_001", "phantom_002"]
    assert "found 9 too" in report.excluded["phantom_001"]
    assert "truncated or damaged" in report.excluded["phantom_002"]
    assert Store.open(config.output).manifest.excluded == report.excluded
    assert prepare(config).excluded == report.excluded  # and still reported the second time
    with pytest.raises(UserError, match="expected"):
        prepare(PrepareConfig(scans, config.output, strict=True))
    assert len(Store.open(config.output).split("all")) == 2


def test_no_case_at_all_is_an_error(tmp_path):
    scans = write_phantom(tmp_path / "scans", cases=2, shape=(16, 16, 16))
    for label in (scans / "labelsTr").iterdir():
        spoil_label(label)
    with pytest.raises(
        UserError, match=r"expected a usable case, found none: .*found 9 too.* \(and 1 more\)"
    ):
        prepare(PrepareConfig(scans, tmp_path / "store"))
    assert {entry.name for entry in tmp_path.iterdir()} == {"scans"}


def test_a_case_that_no_node_has_the_memory_for_is_reported_before_it_starts(tmp_path, monkeypatch):
    scans = write_phantom(tmp_path / "scans", cases=1, shape=(16, 16, 16))
    monkeypatch.setattr(survey, "PROCESS_MEMORY", 1 << 50)
    with pytest.raises(
        UserError, match=r"expected a node with 1048576.0 GiB of free RAM for the largest case"
    ):
        prepare(PrepareConfig(scans, tmp_path / "store"))
    assert not (tmp_path / "store").exists()


def test_a_disk_that_cannot_be_written_ends_the_run(tmp_path, monkeypatch):
    scans = write_phantom(tmp_path / "scans", cases=1, shape=(16, 16, 16))
    monkeypatch.setattr(
        plan.PreparePlan, "path", lambda self, case: self.output / "gone" / f"{case.id}.arrow"
    )
    with pytest.raises(
        UserError,
        match=r"expected a file that can be written, found No such file or directory; free some space",
    ):
        prepare(PrepareConfig(scans, tmp_path / "store"))
    assert not (tmp_path / "store").exists()


def test_two_hundred_real_cases(shared, tmp_path):
    report = prepare(PrepareConfig(shared / "data" / "msd_hippocampus", tmp_path / "store"))
    assert report.splits == {"training": 160, "validation": 40, "test": 0}
    assert not report.excluded
    store = Store.open(report.output)
    for case in map(store.case, store.split("validation")):
        assert np.isfinite(case.image).all()
        assert case.label.max() == 2
        assert abs(float(case.image.mean(dtype=np.float64))) < 0.1


def shards(store: Path, world_size: int, batch_size: int = 4) -> list[list]:
    training = replace(TRAINING, batch_size=batch_size)
    datasets = {"references": reference_dataset(Store.open(store), training)}
    iterators = DeterministicSharding().configure(datasets, world_size, None, None)
    return [list(shard_references(iterator["references"])) for iterator in iterators]


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_each_rank_gets_its_share_of_every_batch(phantom_store, world_size):
    cases = Store.open(phantom_store).split("training")
    for rank, steps in enumerate(shards(phantom_store, world_size)):
        expected = batch_order(cases, epochs=3, batch_size=4, seed=5, rank=rank, world_size=world_size)
        assert steps == list(expected)


@pytest.mark.parametrize("batch_size", [4, 6])  # of 8 cases
def test_ranks_are_disjoint_and_together_complete_each_epoch(phantom_store, batch_size):
    cases = Store.open(phantom_store).split("training")
    first, second = shards(phantom_store, 2, batch_size)
    for epoch in range(3):
        seen = [
            {reference.case for step in rank for reference in step if reference.epoch == epoch}
            for rank in (first, second)
        ]
        assert not seen[0] & seen[1]
        assert seen[0] | seen[1] == set(cases)


def test_a_run_too_long_to_list_is_rejected(phantom_store):
    with pytest.raises(
        UserError, match=r"training.epochs: expected at most 12500000 for 8 cases, found 1000000000"
    ):
        reference_dataset(Store.open(phantom_store), TrainingConfig(epochs=10**9, batch_size=4))


@pytest.mark.slow  # the tests of training go the same way
def test_training_workers_get_theirs_while_they_hold_every_cpu(phantom_store, tmp_path):
    from ray.train import RunConfig, ScalingConfig
    from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

    def collect() -> None:
        from ray.train import get_context, get_dataset_shard

        rank = get_context().get_world_rank()
        steps = shard_references(get_dataset_shard("references"))
        lines = [",".join(reference.case for reference in step) for step in steps]
        (tmp_path / f"{rank}.txt").write_text("\n".join(lines))

    store = Store.open(phantom_store)
    DataParallelTrainer(
        collect,
        scaling_config=ScalingConfig(num_workers=2, resources_per_worker={"CPU": 1}),
        run_config=RunConfig(storage_path=str(tmp_path / "runs"), name="references"),
        datasets={"references": reference_dataset(store, TRAINING)},
        dataset_config=DeterministicSharding(),
    ).fit()
    for rank in range(2):
        order = batch_order(store.split("training"), epochs=3, batch_size=4, seed=5, rank=rank, world_size=2)
        expected = [",".join(reference.case for reference in step) for step in order]
        assert (tmp_path / f"{rank}.txt").read_text().splitlines() == expected
