"""Packages with entry points on the path of a test."""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

Install = Callable[..., None]


@pytest.fixture(autouse=True)
def own_path(plugins_forgotten: None) -> None:
    """Each test finds the packages of its own path."""


@pytest.fixture
def example(plugin_example: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(plugin_example)


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Put a package with one module and its entry points on the path, as an installer leaves it."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(site)

    def put(name: str, code: str, *points: str, group: str = "networks", text: str | None = None) -> None:
        folder = site / f"{name}-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        lines = "\n".join(points)
        (folder / "entry_points.txt").write_text(text or f"[ossnet.{group}]\n{lines}\n")
        (site / f"plug_{name}.py").write_text(code)

    return put


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[], list[str]]]:
    """The lines that plug-ins caused so far, whatever an earlier test made of the package's logger."""
    logger = logging.getLogger("ossnet")
    propagated, logger.propagate = logger.propagate, False
    logger.addHandler(caplog.handler)
    yield lambda: [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    logger.removeHandler(caplog.handler)
    logger.propagate = propagated
