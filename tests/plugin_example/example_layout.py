"""A layout in one file: a folder a case, with `scan.nii.gz` and `mask.nii.gz`."""

from pathlib import Path

from ossnet.data.layouts import Case, Layout, Source


def _cases(path: Path) -> list[Path]:
    return sorted(scan.parent for scan in path.glob("*/scan.nii.gz"))


def recognizes(path: Path) -> bool:
    """Whether any folder inside holds a scan."""
    return bool(_cases(path))


def read(path: Path) -> Source:
    """Pair scans and masks by their folder; a mask without a scan is reported by no case."""
    cases = tuple(
        Case(
            id=folder.name,
            images=(folder / "scan.nii.gz",),
            label=folder / "mask.nii.gz",
            group=folder.name,
        )
        for folder in _cases(path)
    )
    return Source(
        root=path,
        layout="scan-and-mask",
        modalities=("MR",),
        labels={"edema": 1, "core": 2, "enhancing": 3},
        cases=cases,
        unmatched={},
    )


LAYOUT = Layout("scan-and-mask", "case/scan.nii.gz", recognizes, read)
