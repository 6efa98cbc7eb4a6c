"""Runs whose cases come through a node's cache: as from the store's own files, or ended with one line."""

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ossnet.config import Config
from ossnet.data import Store
from ossnet.data.store.cache import CachedCases
from ossnet.errors import CaseError, UserError
from ossnet.training_run import run_training


@dataclass(frozen=True)
class Elsewhere:
    """The files of a store that this node cannot map."""

    root: Path

    def read(self, file: str) -> tuple[int, Iterator[memoryview]]:
        content = (self.root / file).read_bytes()
        return len(content), iter([memoryview(content)])


class Losses:
    def __init__(self) -> None:
        self.steps: list[float] = []

    def step(self, metrics: dict[str, float], step: int) -> None:
        self.steps.append(metrics["loss/train"])

    def epoch(self, metrics: dict[str, float], checkpoint: Path | None) -> None:
        pass


def train(store: Store) -> list[float]:
    config = Config.preset("oss-net-d", store).replace(
        {
            "model.encoder_channels": [4, 8],
            "model.decoder_width": 16,
            "model.decoder_blocks": 2,
            "model.patch_edge": 3,
            "sampling.points": 64,
            "training.batch_size": 2,
            "training.epochs": 3,
            "training.validate_every": 3,
            "training.loader_threads": 2,
            "data.strict": False,
            "data.max_lost": 1.0,
        }
    )
    losses = Losses()
    run_training(config, store, reporter=losses, device="cpu", predicted_gib=0.1)
    return losses.steps


def cached(root: Path, folder: Path, limit: int | None = None) -> Store:
    manifest = Store.open(root).manifest
    reader = CachedCases(Elsewhere(root), folder, manifest.fingerprint, str(root), limit)
    return Store(root, manifest, reader=reader)


def sizes(root: Path) -> list[int]:
    return [(root / entry.file).stat().st_size for entry in Store.open(root).manifest.cases.values()]


def test_a_cache_that_is_too_small_for_the_store_changes_nothing(phantom_store: Path, tmp_path: Path) -> None:
    limit = 3 * max(sizes(phantom_store))
    assert limit < sum(sizes(phantom_store))
    assert train(cached(phantom_store, tmp_path / "cache", limit)) == train(Store.open(phantom_store))
    kept = [path.stat().st_size for path in (tmp_path / "cache").glob("*/*.arrow")]
    assert len(kept) == 3
    assert sum(kept) <= limit


def test_what_is_no_fault_of_a_case_ends_a_run_that_may_lose_cases(
    phantom_store: Path, tmp_path: Path
) -> None:
    (tmp_path / "cache").write_text("no folder")
    with pytest.raises(UserError, match=r"case .*, node .*: .*set data.cache_folder to a folder") as error:
        train(cached(phantom_store, tmp_path / "cache"))
    assert not isinstance(error.value, CaseError)
    assert "\n" not in str(error.value)


def test_a_disk_that_is_full_ends_a_run_with_one_line(phantom_store: Path, tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={max(sizes(phantom_store)) // 2}", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount")
    try:
        with pytest.raises(
            UserError, match=r"case .*, node .*: .*No space left on device; free some"
        ) as error:
            train(cached(phantom_store, folder, 1 << 30))
    finally:
        subprocess.run(["umount", str(folder)], check=True)
    assert "\n" not in str(error.value)
