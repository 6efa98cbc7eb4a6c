"""Files that are not what their name says, other formats, and files that would fill the memory or hang."""

import ast
import gzip
import os
import resource
import shlex
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import nibabel
import numpy as np
import pytest

from ossnet.data.imaging.formats import foreign_format
from ossnet.data.imaging.nifti import read_channels, read_header, read_labels
from ossnet.data.imaging.streams import MAX_GAP
from ossnet.errors import UserError

VOXELS = np.arange(1, 4 * 5 * 6 + 1, dtype=np.int16).reshape(4, 5, 6)


def save(path: Path, kind: Callable = nibabel.Nifti1Image, array: np.ndarray = VOXELS) -> Path:
    nibabel.save(kind(array, np.eye(4)), path)
    return path


def read(path: Path) -> np.ndarray:
    return next(read_channels(read_header(path)))


@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.parametrize(("source", "name"), [("a.nii.gz", "b.nii"), ("a.nii", "b.nii.gz"), ("a.nii", "b")])
def test_content_decides_whether_a_file_is_compressed(tmp_path, kind, source, name):
    path = Path(shutil.move(save(tmp_path / source, kind), tmp_path / name))
    np.testing.assert_array_equal(read(path), VOXELS)


@pytest.mark.parametrize("kind", [nibabel.Nifti1Pair, nibabel.Nifti2Pair])
@pytest.mark.parametrize("end", ["", ".gz"])
@pytest.mark.parametrize("half", [".hdr", ".img"])
def test_pairs_are_read_by_either_half(tmp_path, kind, end, half):
    save(tmp_path / f"pair.img{end}", kind)
    np.testing.assert_array_equal(read(tmp_path / f"pair{half}{end}"), VOXELS)
    np.testing.assert_array_equal(read_labels(read_header(tmp_path / f"pair{half}{end}")), VOXELS)


@pytest.mark.parametrize(("left", "lost"), [("pair.hdr", "pair.img"), ("pair.img", "pair.hdr")])
def test_half_a_pair_is_reported(tmp_path, left, lost):
    save(tmp_path / "pair.img", nibabel.Nifti1Pair)
    (tmp_path / lost).unlink()
    with pytest.raises(UserError, match=f"{left}: expected {lost} beside it, found one half of a pair"):
        read_header(tmp_path / left)


FOREIGN = {
    "a.mgh": (None, "MGH", "nib-convert a.mgh a.nii.gz"),
    "a.mgz": (None, "MGH", "nib-convert a.mgz a.nii.gz"),
    "a.mnc": (b"CDF\x01" + bytes(400), "MINC", "mnc2nii a.mnc a.nii"),
    "b.mnc": (b"\x89HDF\r\n\x1a\n" + bytes(400), "MINC", "mnc2nii"),
    "b.nii.gz": (b"ObjectType = Image\nNDims = 3\n", "MetaImage", "SimpleITK"),
    "scan.nii.gz": (b"NRRD0005\ntype: short\n", "NRRD", "SimpleITK"),
    "c.nii": (b"NDims = 3\n", "MetaImage", "SimpleITK"),
    "a.dcm": (bytes(128) + b"DICM" + bytes(400), "DICOM", "dcm2niix -z y"),
    "IM0001": (bytes(128) + b"DICM" + bytes(400), "DICOM", "dcm2niix -z y"),
    "b.dcm": (b"\x08\x00\x05\x00" + bytes(400), "DICOM", "dcm2niix -z y"),
    "a.nii": (b"PK\x03\x04" + bytes(400), "a zip archive", "unzip a.nii"),
    "b.nii": (b"BZh91AY" + bytes(400), "a bzip2 archive", "bunzip2"),
    "c.nii.gz": (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer", "git lfs pull"),
    "d.nii.gz": (b"<!DOCTYPE html><html>", "a web page", "export the scan as NIfTI"),
    "e.nii.gz": (b"\x89PNG\r\n\x1a\n" + bytes(400), "a PNG picture", "export the scan as NIfTI"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_other_formats_are_named_with_what_converts_them(tmp_path, name):
    content, kind, remedy = FOREIGN[name]
    path = tmp_path / name
    if content is None:
        save(path, nibabel.MGHImage, VOXELS.astype(np.float32))
    else:
        path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_header(path)
    assert (caught.value.expected, caught.value.found) == ("a NIfTI file", kind)
    assert remedy in str(caught.value.remedy)
    assert "copy it again" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_analyze_is_named(tmp_path):
    save(tmp_path / "old.img", nibabel.AnalyzeImage)
    with pytest.raises(UserError, match=r"expected a NIfTI file, found Analyze 7.5; convert it: nib-convert"):
        read_header(tmp_path / "old.img")


def test_the_command_for_mgh_does_it(tmp_path):
    from nibabel.cmdline.convert import main

    save(tmp_path / "a b.mgz", nibabel.MGHImage, VOXELS.astype(np.float32))
    with pytest.raises(UserError, match=r"nib-convert 'a b.mgz' 'a b.nii.gz'"):
        read_header(tmp_path / "a b.mgz")
    main([str(tmp_path / "a b.mgz"), str(tmp_path / "a b.nii.gz")])
    np.testing.assert_array_equal(read(tmp_path / "a b.nii.gz"), VOXELS)


@pytest.mark.parametrize("name", ["it's $HOME `x`.nii", 'a "b".nii', "-a;b&c.nii", "ü\\n.nii"])
@pytest.mark.parametrize(
    ("content", "command"),
    [
        (b"NRRD0005\n", ["pip", "install", "SimpleITK,", "then", "python", "-c"]),
        (b"CDF\x01", ["mnc2nii"]),
        (b"PK\x03\x04", ["unzip"]),
    ],
)
def test_a_shell_reads_the_names_in_a_command_as_they_are(tmp_path, name, content, command):
    path = tmp_path / name
    path.write_bytes(content + bytes(400))
    with pytest.raises(UserError) as caught:
        read_header(path)
    words = shlex.split(str(caught.value.remedy).split(": ", 1)[1])
    assert words[: len(command)] == command
    if command[0] == "pip":
        calls = ast.walk(ast.parse(words[-1]))
        assert name in [node.value for node in calls if isinstance(node, ast.Constant)]
    else:
        assert words[1] == name


def test_noise_is_no_format():
    assert foreign_format(Path("scan.nii.gz"), b"no image at all") is None


def test_only_regular_files_are_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.nii.gz")
    (tmp_path / "folder.nii.gz").mkdir()
    (tmp_path / "link.nii.gz").symlink_to("nowhere.nii.gz")
    os.mkfifo(tmp_path / "pair.img")
    (tmp_path / "pair.hdr").write_bytes(bytes(348))
    found = {
        "pipe.nii.gz": "no regular file",
        "folder.nii.gz": "a folder",
        "link.nii.gz": "a link to nowhere.nii.gz, where nothing is",
        "pair.hdr": "one half of a pair",
    }
    for name, what in found.items():
        with pytest.raises(UserError) as caught:
            read_header(tmp_path / name)
        assert caught.value.found == what


def header_of(shape: tuple[int, ...], dtype: type = np.uint8, offset: int = 352) -> bytes:
    header = nibabel.Nifti1Header()
    header.set_data_dtype(dtype)
    header.set_data_shape(shape)
    header.set_sform(np.eye(4), 1)
    header["vox_offset"], header["magic"] = offset, b"n+1"
    return header.binaryblock + bytes(4)


def bomb(path: Path, head: bytes, size: int) -> Path:
    """A header with so many zero bytes behind it, which gzip makes small."""
    with gzip.GzipFile(path, "wb", compresslevel=6) as stream:
        stream.write(head)
        for _ in range(size >> 20):
            stream.write(bytes(1 << 20))
    return path


@contextmanager
def little() -> Iterator[None]:
    """What is done inside takes little memory and time."""
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    yield
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400 << 10
    assert time.monotonic() - began < 8


def test_a_bomb_behind_the_voxels_is_reported(tmp_path):
    path = bomb(tmp_path / "bomb.nii.gz", header_of((10, 10, 10)), 300 << 20)
    with little(), pytest.raises(UserError, match=r"bomb.nii.gz: .* found over 64 MiB more"):
        read(path)
    with pytest.raises(UserError, match="found over 64 MiB more"):
        read_labels(read_header(path))


def test_some_padding_behind_the_voxels_is_no_bomb(tmp_path):
    path = bomb(tmp_path / "padded.nii.gz", header_of((10, 10, 10)), 3 << 20)
    assert not read(path).any()


def test_a_bomb_before_the_voxels_is_reported(tmp_path):
    path = bomb(tmp_path / "bomb.nii.gz", header_of((9, 9, 9), offset=MAX_GAP * 4), 300 << 20)
    with (
        little(),
        pytest.raises(UserError, match=f"within the first 64 MiB, .* byte {MAX_GAP * 4}"),
    ):
        read_header(path)


@pytest.mark.parametrize("name", ["huge.nii", "huge.nii.gz"])
@pytest.mark.parametrize("shape", [(30000, 30000, 30000), (32767,) * 3, (30000, 30000, 2, 30000)])
def test_a_header_that_claims_what_no_file_holds_is_reported(tmp_path, name, shape):
    content = header_of(shape, np.float64) + bytes(100000)
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    with little(), pytest.raises(UserError, match=r"bytes of voxels.*; copy the file again"):
        read_header(tmp_path / name)


def test_a_claim_that_compression_allows_is_counted_before_it_is_believed(tmp_path):
    path = bomb(tmp_path / "claim.nii.gz", header_of((2000, 2000, 40)) + os.urandom(1 << 20), 150 << 20)
    with (
        little(),
        pytest.raises(UserError, match="160000000 bytes of voxels, found 158334976 readable ones"),
    ):
        read_header(path)


def test_a_large_label_of_mostly_nothing_is_read(tmp_path):
    path = bomb(tmp_path / "label.nii.gz", header_of((512, 512, 400)), 100 << 20)
    assert read_labels(read_header(path)).shape == (512, 512, 400)
