"""Which files are scans, by their names."""

from pathlib import Path

import pytest

from ossnet.data.imaging.scan_files import image_suffix, looks_like_scan, stem


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.b.nii.gz", "a.b"),
        ("case_001.nii", "case_001"),
        ("scan.img", "scan"),
        ("A.NII.GZ", "A"),
        ("b.Nii.gz", "b"),
        ("c.hdr.gz", "c"),
        ("d.mgz", "d"),
        ("notes.txt", "notes"),
    ],
)
def test_stem(name, expected):
    assert stem(Path(name)) == expected


@pytest.mark.parametrize(
    ("name", "suffix", "scan"),
    [
        ("a.nii.gz", ".nii.gz", True),
        ("a.NII.GZ", ".NII.GZ", True),
        ("a.Nii", ".Nii", True),
        ("a.hdr", None, True),
        ("a.IMG", None, True),
        ("a.mha", ".mha", True),
        ("a.NRRD", ".NRRD", True),
        ("a.dcm", None, True),
        ("a.nii.bz2", None, True),
        ("._a.nii.gz", ".nii.gz", False),
        ("a.json", None, False),
        ("niigz", None, False),
    ],
)
def test_what_is_read_and_what_must_not_be_passed_over(name, suffix, scan):
    assert image_suffix(Path(name)) == suffix
    assert looks_like_scan(Path(name)) == scan
