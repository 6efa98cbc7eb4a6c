"""Which files are scans, by their names: those that are read, and those that must be reported."""

from pathlib import Path

SUFFIXES = (".nii.gz", ".nii")
"""Of NIfTI files, longest first."""
_OTHERS = (
    *(".hdr", ".hdr.gz", ".img", ".img.gz", ".mgz", ".mgh", ".mgh.gz", ".mnc", ".mnc.gz", ".nrrd", ".nhdr"),
    *(".mha", ".mhd", ".dcm", ".ima", ".nii.bz2", ".nii.zst", ".nii.xz", ".nii.zip"),
)


def nifti_suffix(path: Path) -> str | None:
    """The ending of a NIfTI file, as it is written; None for other files."""
    lower = path.name.lower()
    return next((path.name[-len(end) :] for end in SUFFIXES if lower.endswith(end)), None)


def looks_like_scan(path: Path) -> bool:
    """Whether a name is that of a scan in any format, of which only some can be read."""
    lower = path.name.lower()
    return lower.endswith((*SUFFIXES, *_OTHERS)) and not path.name.startswith(".")


def stem(path: Path) -> str:
    """File name without the ending of a scan."""
    lower = path.name.lower()
    endings = sorted((*SUFFIXES, *_OTHERS), key=len, reverse=True)
    return next((path.name[: -len(end)] for end in endings if lower.endswith(end)), path.stem)
