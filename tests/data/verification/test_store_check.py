import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ossnet.data import Store, verify_store
from ossnet.data.store.case_file import write_case
from ossnet.errors import UserError


@pytest.fixture
def store(phantom_store, tmp_path) -> Path:
    """A copy to be spoilt."""
    return Path(shutil.copytree(phantom_store, tmp_path / "store"))


def case_file(store: Path, number: int) -> Path:
    return store / Store.open(store).manifest.cases[f"phantom_{number:03d}"].file


def change(store: Path, number: int, **fields: object) -> None:
    """Write a case again with other content."""
    case = Store.open(store).case(f"phantom_{number:03d}")
    path = case_file(store, number)
    write_case(path, replace(case, **fields))


def forget_digests(store):
    """As a store was made before files had checksums, so that what they hold is looked at."""
    path = store / "manifest.json"
    manifest = json.loads(path.read_text())
    for entry in manifest["cases"].values():
        entry["digest"] = None
    path.write_text(json.dumps(manifest))


def test_a_store_as_prepared_gives_nothing(store):
    found = verify_store(store)
    assert (found.layout, found.findings, found.exit_code) == ("store", (), 0)
    opened = Store.open(store)
    for view in found.cases:
        case = opened.case(view.case)
        assert sum(view.voxels.values()) == case.label.size
        assert list(view.voxels.values()) == [count for count in case.statistics.class_counts if count]
        assert view.images[0].maximum == case.image.max()
        assert view.picture.startswith("data:image/jpeg;base64,")


def test_a_group_in_two_splits_is_reported_for_each_group(store):
    path = store / "manifest.json"
    manifest = json.loads(path.read_text())
    training, validation = manifest["splits"]["training"], manifest["splits"]["validation"]
    for number, (one, other) in enumerate(zip(training, validation, strict=False)):
        manifest["cases"][one]["group"] = manifest["cases"][other]["group"] = f"patient-{number}"
    path.write_text(json.dumps(manifest))
    with pytest.raises(UserError, match="found it in the training and in the validation split"):
        Store.open(store)
    found = verify_store(store)
    assert [finding.severity for finding in found.findings] == ["error"] * len(validation)
    first = min(found.findings, key=lambda finding: finding.what)
    assert first.what == (
        f"expected the group patient-0 in one split, found it in training ({training[0]}) "
        f"and validation ({validation[0]})"
    )
    assert first.where == str(path)


def test_a_changed_file_shows_in_its_checksum(store):
    label = Store.open(store).case("phantom_003").label.copy()
    label[0, 0, 0] = 1 - min(label[0, 0, 0], 1)
    change(store, 3, label=label)
    errors = [finding for finding in verify_store(store).findings if finding.severity == "error"]
    assert {error.case for error in errors} == {"phantom_003"}
    assert any(error.what.startswith("expected the checksum") for error in errors)


def test_what_is_not_whole_is_reported(store):
    forget_digests(store)
    case_file(store, 1).unlink()
    case_file(store, 2).write_bytes(case_file(store, 2).read_bytes()[:5000])
    label = Store.open(store).case("phantom_003").label.copy()
    label[0, 0, 0] = 9
    change(store, 3, label=label)
    found = verify_store(store)
    assert {
        finding.case: finding.what.split(",")[0] for finding in found.findings if finding.severity == "error"
    } == {
        "phantom_001": "expected a case of the store",
        "phantom_002": "expected a case of the store",
        "phantom_003": "expected label indices up to 3",
    }
    assert found.exit_code == 2
    assert all(finding.remedy for finding in found.findings)


def test_copies_and_empty_labels_are_warnings(store):
    forget_digests(store)
    other = Store.open(store).case("phantom_004")
    shutil.copy(case_file(store, 4), case_file(store, 5))
    sixth = Store.open(store).case("phantom_006")
    empty = np.zeros_like(sixth.label)
    statistics = replace(sixth.statistics, class_counts=(empty.size, 0, 0, 0))
    change(store, 6, label=empty, header=replace(sixth.header, statistics=statistics))
    found = verify_store(store)
    assert [(finding.case, finding.severity) for finding in found.findings] == [
        ("phantom_005", "warning"),
        ("phantom_006", "warning"),
    ]
    assert f"found those of {other.id}" in found.findings[0].what
    assert found.exit_code == 1


def test_what_is_no_store_is_an_error(tmp_path):
    with pytest.raises(UserError, match="nowhere: expected a store, found no such folder"):
        verify_store(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"found no manifest\.json"):
        verify_store(tmp_path)
