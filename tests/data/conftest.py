"""Scans to be prepared."""

import shutil
from pathlib import Path

import pytest

from ossnet.data import write_phantom


@pytest.fixture(scope="session")
def study(tmp_path_factory) -> Path:
    """Five phantom cases; read only."""
    return write_phantom(tmp_path_factory.mktemp("study") / "scans", cases=5, shape=(20, 18, 16))


@pytest.fixture
def scans(study, tmp_path) -> Path:
    """A copy to be spoilt."""
    return Path(shutil.copytree(study, tmp_path / "scans"))
