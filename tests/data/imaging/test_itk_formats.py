"""MetaImage and NRRD give the voxels and the places that the same volume has as NIfTI."""

import builtins
import gzip
import os
import zlib
from pathlib import Path

import nibabel
import numpy as np
import pytest
from small_study import prepare_here

from ossnet.data import PrepareConfig, Store, verify, write_phantom
from ossnet.data.imaging.header import files_of
from ossnet.data.imaging.nifti import on_grid, read_channels, read_header, read_labels, write_nifti
from ossnet.data.prepare.plan import make_plan
from ossnet.errors import UserError

VOXELS = np.random.default_rng(0).integers(-500, 900, (4, 5, 6)).astype(np.int16)
TURN = nibabel.eulerangles.euler2mat(0.3) @ np.array([[0.0, 1, 0], [1, 0, 0], [0, 0, -1]])
SIZES = np.array([0.7, 1.3, 2.9])
AFFINE = np.eye(4)
AFFINE[:3, :3], AFFINE[:3, 3] = TURN * SIZES, (5, -6, 7)
TO_LPS = np.diag([-1.0, -1, 1])
META = {
    "i1": "CHAR",
    "u1": "UCHAR",
    "i2": "SHORT",
    "u2": "USHORT",
    "i4": "INT",
    "f4": "FLOAT",
    "f8": "DOUBLE",
}


def numbers(*rows: np.ndarray) -> str:
    return " ".join(f"{number:.17g}" for row in rows for number in np.ravel(row))


def meta(path: Path, array: np.ndarray = VOXELS, affine: np.ndarray = AFFINE, **changes: object) -> Path:
    """A file as ITK writes it; a fourth axis is that of channels, side by side where they are said to be."""
    inside = int(str(changes.get("ElementNumberOfChannels", 1)))
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    count = 3 if inside > 1 else array.ndim
    turn, more = np.eye(count), [1.0] * (count - 3)
    turn[:3, :3] = (TO_LPS @ affine[:3, :3] / sizes).T
    body = (np.moveaxis(array, -1, 0) if inside > 1 else array).tobytes(order="F")
    body = zlib.compress(body) if changes.get("CompressedData") else body
    fields = {
        "ObjectType": "Image",
        "NDims": count,
        "BinaryData": True,
        "TransformMatrix": numbers(turn),
        "Offset": numbers(TO_LPS @ affine[:3, 3], np.zeros(count - 3)),
        "ElementSpacing": numbers(sizes, np.array(more)),
        "DimSize": numbers(np.array(array.shape[:count])),
        "ElementType": f"MET_{META[array.dtype.str[1:]]}",
        **changes,
    }
    data = str(fields.pop("ElementDataFile", "LOCAL"))
    fields["ElementDataFile"] = data  # the last one, as it must be
    head = "".join(f"{name} = {value}\n" for name, value in fields.items()).encode()
    path.write_bytes(head + body if data == "LOCAL" else head)
    if data != "LOCAL":
        (path.parent / data).write_bytes(body)
    return path


def nrrd_file(path: Path, array: np.ndarray = VOXELS, affine: np.ndarray = AFFINE, **header: object) -> Path:
    nrrd = pytest.importorskip("nrrd", reason="needs ossnet[formats]")
    space = str(header.pop("space", "left-posterior-superior"))
    signs = TO_LPS if space == "left-posterior-superior" else np.eye(3)
    steps, kinds = list((signs @ affine[:3, :3]).T), ["domain"] * 3
    if array.ndim == 4:
        first = header.pop("channels first")
        array = np.moveaxis(array, -1, 0) if first else array
        steps.insert(0 if first else 3, np.full(3, np.nan))
        kinds.insert(0 if first else 3, "list")
    fields = {
        "space": space,
        "space directions": np.array(steps),
        "space origin": signs @ affine[:3, 3],
        "kinds": kinds,
        "encoding": "raw",
        **header,
    }
    nrrd.write(str(path), array, fields, detached_header=path.suffix == ".nhdr", index_order="F")
    return path


def assert_same(path: Path, array: np.ndarray = VOXELS, affine: np.ndarray = AFFINE) -> None:
    reference = path.with_name("reference.nii")
    nibabel.save(nibabel.Nifti1Image(array, affine, dtype=array.dtype), reference)
    found, expected = read_header(path), read_header(reference)
    assert (found.channels, found.dtype.kind) == (expected.channels, expected.dtype.kind)
    np.testing.assert_allclose(found.geometry.affine, expected.geometry.affine, atol=1e-5)
    np.testing.assert_allclose(found.geometry.spacing, expected.geometry.spacing, rtol=1e-5)
    for one, other in zip(read_channels(found), read_channels(expected), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("dtype", ["<i2", "<u1", "<u2", "<i4", "<f4", "<f8", "<i1"])
def test_every_type_of_meta_image(tmp_path, dtype):
    array = VOXELS.astype(dtype)
    assert_same(meta(tmp_path / "a.mha", array), array)
    assert_same(meta(tmp_path / "b.mha", array, CompressedData=True), array)


@pytest.mark.parametrize(
    "dtype", ["int16", "uint8", "uint16", "int32", "int64", "float32", "float64", "int8"]
)
@pytest.mark.parametrize("encoding", ["raw", "gzip"])
def test_every_type_of_nrrd(tmp_path, dtype, encoding):
    array = VOXELS.astype(dtype)
    assert_same(nrrd_file(tmp_path / "a.nrrd", array, encoding=encoding), array)


@pytest.mark.parametrize("space", ["right-anterior-superior", "RAS", "left-posterior-superior"])
def test_the_space_of_nrrd_counts(tmp_path, space):
    assert_same(nrrd_file(tmp_path / "a.nrrd", space=space))


@pytest.mark.parametrize("swapped", [VOXELS.astype(">i2"), VOXELS.astype(">f4")])
def test_numbers_in_the_other_byte_order(tmp_path, swapped):
    assert_same(meta(tmp_path / "a.mha", swapped, BinaryDataByteOrderMSB=True), swapped)


CHANNELS = np.stack([VOXELS, VOXELS + 1, VOXELS * 2], axis=-1)


def test_channels_are_read_wherever_they_are(tmp_path, monkeypatch):
    monkeypatch.setattr("ossnet.data.imaging.nifti.SLAB", 4 * 5 * 2)  # several slabs
    assert_same(meta(tmp_path / "side_by_side.mha", CHANNELS, ElementNumberOfChannels=3), CHANNELS)
    assert_same(
        meta(tmp_path / "both.mha", CHANNELS, ElementNumberOfChannels=3, CompressedData=True), CHANNELS
    )
    assert_same(meta(tmp_path / "behind.mha", CHANNELS), CHANNELS)
    for first in (True, False):
        assert_same(nrrd_file(tmp_path / f"{first}.nrrd", CHANNELS, **{"channels first": first}), CHANNELS)


@pytest.mark.parametrize("packed", [False, True])
def test_voxels_in_a_file_of_their_own(tmp_path, packed):
    path = meta(
        tmp_path / "a.mhd", ElementDataFile="voxels.raw", **({"CompressedData": True} if packed else {})
    )
    assert_same(path)
    assert files_of(path) == (path, tmp_path / "voxels.raw")
    header = nrrd_file(tmp_path / "b.nhdr", encoding="gzip" if packed else "raw")
    assert_same(header)
    assert len(files_of(header)) == 2
    (tmp_path / "voxels.raw").unlink()
    with pytest.raises(UserError, match=r"voxels.raw: expected a NIfTI file, found no file"):
        read_header(path)


def test_nrrd_without_a_place_is_said(tmp_path):
    path = nrrd_file(tmp_path / "a.nrrd")
    lines = [
        line for line in path.read_bytes().split(b"\n\n", 1)[0].split(b"\n") if not line.startswith(b"space")
    ]
    body = path.read_bytes().split(b"\n\n", 1)[1]
    path.write_bytes(b"\n".join([*lines, b"spacings: 1 2 3"]) + b"\n\n" + body)
    geometry = read_header(path).geometry
    assert not geometry.placed
    assert geometry.spacing == (1, 2, 3)


BROKEN = {
    "claims 30000^3": ({"DimSize": "30000 30000 30000"}, "expected 54000000000000 bytes of voxels"),
    "claims it compressed": ({"DimSize": "9000 9000 900", "CompressedData": True}, "which cannot hold them"),
    "two axes": ({"NDims": 2}, "valid header, found DimSize 4 5 6 of NDims 2"),
    "no numbers": ({"DimSize": "four 5 6"}, "valid header, found invalid literal"),
    "flat": ({"ElementSpacing": "1 0 1"}, "affine that can be inverted"),
    "text": ({"BinaryData": False}, "as text"),
    "many files": ({"ElementDataFile": "LIST"}, "voxels in many files"),
    "no type": ({"ElementType": "MET_STRING"}, "of another kind"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_wrong_with_meta_image_is_one_line(tmp_path, name):
    changes, expected = BROKEN[name]
    with pytest.raises(UserError, match=r"a.mha: expected ") as caught:
        read_header(meta(tmp_path / "a.mha", **changes))
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (b"encoding: raw", b"encoding: bzip2", "found the encoding bzip2; convert it"),
        (b"left-posterior-superior", b"scanner-xyz", "found the space scanner-xyz"),
        (b"sizes: 4 5 6", b"sizes: 4 5 x", "valid header"),
        (b"sizes: 4 5 6", b"sizes: 30000 30000 30000", "expected 54000000000000 bytes of voxels"),
        (b"type: int16", b"type: block", "voxels of the type block"),
        (b"NRRD0005", b"NOTHING0", "valid header"),
        (b"dimension: 3", b"dimension 3", "valid header"),
    ],
)
def test_what_is_wrong_with_nrrd_is_one_line(tmp_path, old, new, expected):
    path = nrrd_file(tmp_path / "a.nrrd")
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new))
    with pytest.raises(UserError, match=r"a.nrrd: expected ") as caught:
        read_header(path)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("packed", [False, True])
def test_a_truncated_file_is_reported(tmp_path, packed):
    for path in (
        meta(tmp_path / "a.mha", **({"CompressedData": True} if packed else {})),
        nrrd_file(tmp_path / "a.nrrd", encoding="gzip" if packed else "raw"),
    ):
        path.write_bytes(path.read_bytes()[:-20])
        with pytest.raises(UserError, match=r"expected 240 bytes of voxels.*copy the file again"):
            list(read_channels(read_header(path)))


def test_a_bomb_behind_the_voxels_is_reported(tmp_path):
    path = nrrd_file(tmp_path / "a.nrrd", encoding="gzip")
    head = path.read_bytes().split(b"\n\n", 1)[0] + b"\n\n"
    path.write_bytes(head + gzip.compress(VOXELS.tobytes(order="F") + bytes(70 << 20), 1))
    with pytest.raises(UserError, match="found over 64 MiB more"):
        list(read_channels(read_header(path)))


def test_a_name_that_is_no_text(tmp_path):
    assert_same(meta(tmp_path / os.fsdecode(b"bj\xf6rn.mha")))
    assert_same(nrrd_file(tmp_path / "a.nrrd").rename(tmp_path / os.fsdecode(b"bj\xf6rn.nrrd")))


def test_without_pynrrd_there_is_one_line(tmp_path, monkeypatch):
    path = nrrd_file(tmp_path / "a b.nrrd")
    original = builtins.__import__

    def refuse(name: str, *arguments: object) -> object:
        if name == "nrrd":
            raise ImportError(name)
        return original(name, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(
        UserError, match=r"the package pynrrd, to read NRRD, found none; install ossnet\[formats\]"
    ):
        read_header(path)
    assert_same(meta(tmp_path / "a.mha"))  # which needs none


def test_a_segmentation_lies_on_the_grid_of_the_scan(tmp_path):
    file = read_header(meta(tmp_path / "a.mha"))
    write_nifti(tmp_path / "seg.nii.gz", (VOXELS > 0).astype(np.uint8), file.geometry)
    np.testing.assert_allclose(nibabel.load(tmp_path / "seg.nii.gz").affine, AFFINE, atol=1e-5)
    label = on_grid(read_header(tmp_path / "seg.nii.gz"), file.geometry, other="the scan")
    np.testing.assert_array_equal(read_labels(label), next(read_channels(file)) > 0)


@pytest.mark.parametrize("ending", [".mha", ".nrrd"])
def test_a_store_is_the_same_in_either_format(tmp_path, ending):
    """nnU-Net data sets with another `file_ending`."""
    import json

    phantom = write_phantom(tmp_path / "phantom", cases=3, shape=(14, 12, 10), modalities=("FLAIR",))
    write = meta if ending == ".mha" else nrrd_file
    stores = {}
    for end in (".nii.gz", ending):
        root = tmp_path / f"data{end}"
        for folder in ("imagesTr", "labelsTr"):
            (root / folder).mkdir(parents=True)
        for path in sorted(phantom.rglob("*Tr/*.nii.gz")):
            name = path.name.removesuffix(".nii.gz") + "_0000" * (path.parent.name == "imagesTr") + end
            image = nibabel.load(path)
            target = root / path.parent.name / name
            if end == ".nii.gz":
                nibabel.save(image, target)
            else:
                write(target, np.asarray(image.dataobj), image.affine)
        labels = json.loads((phantom / "dataset.json").read_text())["labels"]
        description = {"channel_names": {"0": "FLAIR"}, "file_ending": end}
        description["labels"] = {name: int(value) for value, name in labels.items()}
        (root / "dataset.json").write_text(json.dumps(description))
        assert verify(root).exit_code == 0, verify(root).findings
        prepare_here(make_plan(PrepareConfig(root, tmp_path / f"store{end}")))
        stores[end] = Store.open(tmp_path / f"store{end}")
    one, other = stores.values()
    assert list(one.manifest.cases) == list(other.manifest.cases)
    assert len(one.manifest.cases) == 3
    for case in one.manifest.cases:
        np.testing.assert_array_equal(one.case(case).label, other.case(case).label)
        np.testing.assert_array_equal(one.case(case).voxels, other.case(case).voxels)
