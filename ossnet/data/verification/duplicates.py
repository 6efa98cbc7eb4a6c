"""Checks that compare cases: copies, and labels that are another case's."""

from collections.abc import Iterator, Sequence

from ossnet.data.verification.issues import CaseSummary, FileSummary, Issue


def find_duplicates(views: Sequence[CaseSummary]) -> Iterator[Issue]:
    """Files with the voxels of another case's: each is reported once, for the later case.

    A case whose images are all another's is one finding, whatever its label.

    Args:
        views: cases without error, as others are not used.
    """
    images: dict[str, CaseSummary] = {}
    labels: dict[str, CaseSummary] = {}
    for view in views:
        real = [image for image in view.images if image.minimum != image.maximum]
        origins = [_origin(images, view, image) for image in real]
        first = origins[0] if origins else None
        whole = first is not None and len(real) == len(view.images) and origins == [first] * len(real)
        if whole and first is not None:
            yield _copy(view, real[0], first, "images")
        else:
            for image, origin in zip(real, origins, strict=True):
                if origin is not None:
                    yield _copy(view, image, origin, "voxels")
        if view.label is not None and set(view.voxels) - {"0"}:
            origin = _origin(labels, view, view.label)
            if origin is not None and not whole:
                yield Issue.warning(
                    view.case,
                    view.label.path,
                    expected="a label of its own",
                    found=f"that of {origin.case} ({_file_name(origin.label)})",
                    remedy="find out which of the two it belongs to and put the right one there",
                )


def _origin(known: dict[str, CaseSummary], view: CaseSummary, file: FileSummary) -> CaseSummary | None:
    """The earlier case that has these voxels."""
    if file.digest is None:
        return None
    origin = known.setdefault(file.digest, view)
    return None if origin is view else origin


def _copy(view: CaseSummary, image: FileSummary, origin: CaseSummary, what: str) -> Issue:
    apart = "" if view.group == origin.group else "; they may end in different splits, as their groups differ"
    return Issue.warning(
        view.case,
        image.path,
        expected=f"{what} of its own",
        found=f"those of {origin.case}{apart}",
        remedy="remove one of the two",
    )


def _file_name(file: FileSummary | None) -> str:
    return file.path.name if file else "no file"
