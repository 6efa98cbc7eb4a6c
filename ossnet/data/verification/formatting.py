"""Cases and findings as text, for the terminal and for the page."""

from collections import Counter
from collections.abc import Sequence

from ossnet.data.verification.issues import SEVERITIES, CaseSummary, FileSummary, Verification

_MAX_UNDECLARED = 32
COLUMNS = (
    "case",
    "group",
    "shape",
    "spacing mm",
    "axes",
    "dtype",
    "range",
    "codes",
    "label voxels",
    "findings",
)


def row(view: CaseSummary, verification: Verification) -> tuple[str, ...]:
    """A case as text, one for each of `COLUMNS`."""
    mine = [finding.severity for finding in verification.findings if finding.case == view.case]
    files = [*view.images, *([view.label] if view.label else [])]
    return (
        view.case,
        "" if view.group == view.case else view.group,
        _distinct([_times(file.shape) for file in files]),
        _distinct([_times(file.spacing) for file in files]),
        _distinct([file.orientation or "" for file in files]),
        _distinct([file.dtype or "" for file in view.images]) + _of_label(view.label),
        _range(view.images),
        _distinct([f"s{file.codes[0]} q{file.codes[1]}" if file.codes else "" for file in files]),
        histogram(view),
        ", ".join(f"{mine.count(kind)} {kind}" for kind in SEVERITIES if kind in mine) or "none",
    )


def histogram(view: CaseSummary, most: int = 8) -> str:
    """Label values and how many voxels each has."""
    shown = [f"{value}: {count}" for value, count in list(view.voxels.items())[:most]]
    more = len(view.voxels) - most
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")


def label_rows(verification: Verification) -> list[tuple[str, str, str, str]]:
    """Value, name, number of cases and fraction of voxels of each declared label value and of odd ones."""
    names = {"0": "background", **{str(value): name for name, value in verification.labels.items()}}
    cases, voxels = Counter[str](), Counter[str]()
    for view in verification.cases:
        cases.update(view.voxels.keys())
        voxels.update(view.voxels)
    odd = [value for value, _ in cases.most_common() if value not in names][:_MAX_UNDECLARED]
    total = max(voxels.total(), 1)
    return [
        (value, names.get(value, "not declared"), str(cases[value]), f"{voxels[value] / total:.3%}")
        for value in sorted([*names, *odd], key=_numeric_first)
    ]


def summary(verification: Verification) -> dict[str, str]:
    """Source, number of cases and number of findings as human-readable rows."""
    cases, shown = len(verification.cases), ", ".join(verification.modalities)
    return {
        "source": f"{verification.root} ({verification.layout}; {shown})",
        "cases": f"{cases}, {len(verification.usable)} of them without error",
        "findings": f"{_count(verification.errors, 'error')}, {_count(verification.warnings, 'warning')}",
    }


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _numeric_first(value: str) -> tuple[bool, float, str]:
    try:
        return False, float(value), value
    except ValueError:
        return True, 0.0, value


def _distinct(texts: Sequence[str]) -> str:
    """The value that all files share, or the different values in order."""
    different = list(dict.fromkeys(text for text in texts if text))
    return " / ".join(different) or "unreadable"


def _of_label(label: FileSummary | None) -> str:
    return f", label {label.dtype}" if label and label.dtype else ""


def _times(numbers: Sequence[float] | None) -> str:
    return " x ".join(f"{number:.4g}" for number in numbers) if numbers else ""


def _range(images: Sequence[FileSummary]) -> str:
    lows = [image.minimum for image in images if image.minimum is not None]
    highs = [image.maximum for image in images if image.maximum is not None]
    return f"{min(lows):.6g} to {max(highs):.6g}" if lows else ""
