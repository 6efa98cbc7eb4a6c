"""A small store and a checkpoint of a small network for it."""

from pathlib import Path

import pytest

from ossnet.data import Store


@pytest.fixture(scope="session")
def store(phantom_store: Path) -> Store:
    """Ten phantom cases, two of them for validation."""
    return Store.open(phantom_store)


@pytest.fixture(scope="session")
def checkpoint(phantom_checkpoint: Path) -> Path:
    """Untrained."""
    return phantom_checkpoint
