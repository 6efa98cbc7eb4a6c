"""What an interpreter, a notebook and pandas show of a store and its cases."""

import subprocess
import sys
from pathlib import Path

import numpy as np

import ossnet


def test_a_store_and_a_case_fit_a_line(phantom_store: Path) -> None:
    store = ossnet.open_store(phantom_store)
    assert repr(store).startswith(
        "Store(10 cases (8 training, 2 validation), FLAIR, T1w, T1gd, T2w to 3 classes, /"
    )
    case = store.case("phantom_004")
    assert repr(case) == "StoredCase(phantom_004: 28 x 26 x 22 voxels of 1 x 1 x 1 mm, 4 channels, 3 labels)"
    assert max(len(repr(store)), len(repr(case))) <= 110


def test_a_notebook_shows_slices_with_the_labels_names(phantom_store: Path) -> None:
    store = ossnet.open_store(str(phantom_store))
    page = store.case("phantom_004")._repr_html_()
    assert page.count('<img alt="FLAIR: axial') == 1
    assert [name for name in ("edema", "non-enhancing", "enhancing") if f"{name}</span>" in page] == list(
        store.task.labels
    )
    page = store._repr_html_()
    assert page.count("<img ") == 3
    assert "10 cases (8 training, 2 validation)" in page


def test_cases_as_a_table(phantom_store: Path) -> None:
    store = ossnet.open_store(phantom_store)
    table = store.to_frame()
    assert list(table.columns) == ["split", "group", "shape", "spacing", *store.task.labels]
    assert tuple(table.index[table["split"] == "validation"]) == store.split("validation")
    case = store.case("phantom_004")
    assert table.loc["phantom_004", "edema"] == np.count_nonzero(case.label == 1)
    assert table.loc["phantom_004", "shape"] == case.statistics.shape


def test_importing_the_package_loads_nothing_heavy() -> None:
    script = "import sys; before = set(sys.modules); import ossnet; print(*sorted(set(sys.modules) - before))"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert {name.partition(".")[0] for name in loaded.split()} <= {"ossnet", *sys.stdlib_module_names}
