"""What verifying finds, as plain values."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from ossnet.config_tree import to_dict

Severity = Literal["error", "warning"]
"""Preparing sets an error's case aside; a warning it uses as it is."""


@dataclass(frozen=True)
class Issue:
    """One fault of one file."""

    severity: Severity
    case: str
    """Its id, or the file's name where it belongs to no case."""
    file: Path
    what: str
    """What was expected and what was found."""
    remedy: str

    @classmethod
    def error(cls, text: str, *, case: str, files: Iterable[Path]) -> "Issue":
        """From the line that a check raised: the file, a colon, what is wrong, a semicolon, the remedy.

        Args:
            files: those that the line may name.
        """
        named = [str(file) for file in files if text.startswith(f"{file}: ")]
        name = max(named, key=len) if named else text.partition(": ")[0]
        what, _, remedy = text[len(name) + 2 :].rpartition("; ")
        return cls("error", case, Path(name), what, remedy)


@dataclass(frozen=True)
class FileSummary:
    """What a file holds. `None` is what could not be read."""

    path: Path
    shape: tuple[int, ...] | None = None
    spacing: tuple[float, ...] | None = None
    """Of the file's own axes, in mm."""
    orientation: str | None = None
    """Where the file's axes point, as in RAS."""
    dtype: str | None = None
    codes: tuple[int, int] | None = None
    """Of sform and qform."""
    minimum: float | None = None
    """Of the finite voxels, as is `maximum`."""
    maximum: float | None = None
    not_finite: int = 0
    digest: str | None = None
    """Of the voxels, however they are compressed."""


@dataclass(frozen=True)
class CaseSummary:
    """What a case is made of."""

    case: str
    group: str
    images: tuple[FileSummary, ...]
    label: FileSummary | None
    voxels: dict[str, int]
    """How many voxels have each label value."""
    picture: str | None = None
    """A slice with the label's outline, as a data URI."""


@dataclass(frozen=True)
class LabelRemap:
    """What an odd label value probably means."""

    value: str
    name: str
    """The label, or `background`."""
    to: int
    cases: tuple[str, ...]
    """Those that hold the value."""
    why: str


@dataclass(frozen=True)
class Verification:
    """All that was found."""

    root: Path
    layout: str
    modalities: tuple[str, ...]
    labels: dict[str, int]
    cases: tuple[CaseSummary, ...]
    findings: tuple[Issue, ...]
    """Errors first, by case."""
    remap: tuple[LabelRemap, ...]
    seconds: float

    @property
    def errors(self) -> int:
        """Findings for which preparing sets a case aside."""
        return sum(finding.severity == "error" for finding in self.findings)

    @property
    def warnings(self) -> int:
        """The other findings."""
        return len(self.findings) - self.errors

    @property
    def exit_code(self) -> int:
        """0 without a finding, 1 with warnings only, 2 with errors."""
        return 2 if self.errors else 1 if self.findings else 0

    @property
    def usable(self) -> tuple[str, ...]:
        """Cases without error: those that are prepared."""
        bad = {finding.case for finding in self.findings if finding.severity == "error"}
        return tuple(view.case for view in self.cases if view.case not in bad)

    def to_dict(self) -> dict[str, Any]:
        """Plain values without pictures, for JSON."""
        bare = replace(self, cases=tuple(replace(view, picture=None) for view in self.cases))
        counts = {"errors": self.errors, "warnings": self.warnings, "usable": list(self.usable)}
        return {**to_dict(bare), **counts}


def in_order(findings: Iterable[Issue]) -> tuple[Issue, ...]:
    """Errors first, then by case and file."""
    return tuple(sorted(findings, key=lambda each: (each.severity, each.case, str(each.file))))
