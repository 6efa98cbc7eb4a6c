"""Stores in object storage: S3 as moto serves it on loopback."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from s3_server import S3Server

from ossnet.data import Store
from ossnet.errors import UserError
from ossnet.output.remote.url import parse_location


@pytest.fixture(scope="module")
def s3(s3: S3Server, phantom_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """With a store, on a node that has no copy of it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(tmp_path_factory.mktemp("node")))
        patch.setattr("tempfile.tempdir", None)
        s3.upload(phantom_store, "store")
        yield s3


@pytest.mark.parametrize("slashes", ["//", "/"])  # one of two is lost where an option becomes a path
def test_a_store_on_s3_is_that_of_the_folder(phantom_store, s3, slashes):
    original, store = Store.open(phantom_store), Store.open(Path(f"s3:{slashes}{s3.bucket}/store/"))
    assert store.location == f"s3://{s3.bucket}/store"
    assert store.manifest == original.manifest
    for _ in range(2):
        for case in store.split("training"):
            np.testing.assert_array_equal(store.case(case).voxels, original.case(case).voxels)
    assert {s3.opened[f"store/{store.manifest.cases[case].file}"] for case in store.split("training")} == {1}


def test_an_object_that_vanishes_is_one_line(phantom_store, s3):
    s3.upload(phantom_store, "vanishing")
    store = Store.open(f"s3://{s3.bucket}/vanishing")
    case = store.split("validation")[0]  # which no other test has in the cache
    s3.delete(f"vanishing/{store.manifest.cases[case].file}")
    with pytest.raises(UserError, match=rf"{s3.bucket}/vanishing, case {case}, node .*found none"):
        store.case(case)


def test_no_store_there(s3):
    with pytest.raises(UserError, match=r"expected a store, found no manifest\.json"):
        Store.open(f"s3://{s3.bucket}/nothing")


def test_a_url_of_another_kind():
    with pytest.raises(
        UserError, match=r"ftp://host/store: expected a folder, or a URL that begins with s3://"
    ):
        Store.open(Path("ftp://host/store"))


@pytest.mark.parametrize(
    ("text", "location"),
    [
        ("store", Path("store")),
        ("/data/store", Path("/data/store")),
        ("C:/store", Path("C:/store")),
        ("file:///data/store", Path("/data/store")),
        ("S3://bucket/a store/", "s3://bucket/a store"),
        ("gs:/bucket/store", "gs://bucket/store"),
    ],
)
def test_what_is_a_url(text, location):
    assert parse_location(text) == location
    assert parse_location(Path(text)) == location
