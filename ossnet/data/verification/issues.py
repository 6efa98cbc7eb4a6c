"""The results of verification, as plain values."""

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ossnet.config_tree import to_dict
from ossnet.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

Severity = Literal["error", "warning", "note"]
"""Preparing excludes a case with an error and uses one with a warning as it is; a note may be quite right."""
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")


@dataclass(frozen=True)
class Issue:
    """A fault of a file."""

    severity: Severity
    case: str
    """The case's id, or the file's name where it belongs to no case."""
    where: str
    """The file, or a place in it."""
    expected: str
    found: str
    remedy: str

    @classmethod
    def error(cls, error: UserError, *, case: str) -> "Issue":
        """An error's fields as an issue of a case."""
        return cls(
            "error", case, error.where, error.expected or "", error.found or str(error), error.remedy or ""
        )

    @classmethod
    def of_source(cls, warning: UserError) -> "Issue":
        """A warning about a source as a whole."""
        found = warning.found or str(warning)
        name = Path(warning.where.partition(": ")[0]).name
        return cls("warning", name, warning.where, warning.expected or "", found, warning.remedy or "")

    @classmethod
    def warning(cls, case: str, where: Path, *, expected: str, found: str, remedy: str) -> "Issue":
        """An issue for which a case is not excluded."""
        return cls("warning", case, str(where), expected, found, remedy)

    @classmethod
    def note(cls, case: str, where: Path, *, expected: str, found: str, remedy: str) -> "Issue":
        """What a person may want to look at."""
        return cls("note", case, str(where), expected, found, remedy)

    @property
    def what(self) -> str:
        """What was expected and what was found, in one clause."""
        return f"expected {self.expected}, found {self.found}"


@dataclass(frozen=True)
class FileSummary:
    """The contents of a file; `None` where they could not be read."""

    path: Path
    shape: tuple[int, ...] | None = None
    spacing: tuple[float, ...] | None = None
    """Voxel size along the file's own axes, in mm."""
    orientation: str | None = None
    """Where the file's axes point, as in RAS."""
    dtype: str | None = None
    codes: tuple[int, int] | None = None
    """Codes of sform and qform."""
    minimum: float | None = None
    """Smallest finite voxel."""
    maximum: float | None = None
    """Largest finite voxel."""
    means: tuple[float | None, ...] = ()
    """Of each channel, the mean of the finite voxels that are not 0."""
    not_finite: int = 0
    digest: str | None = None
    """Digest of the voxels, however they are compressed."""


@dataclass(frozen=True)
class CaseSummary:
    """The files and contents of a case."""

    case: str
    group: str
    images: tuple[FileSummary, ...]
    label: FileSummary | None
    voxels: dict[str, int]
    """Number of voxels of each label value."""
    picture: str | None = None
    """Three planes with the label's outline, as a data URI."""
    modality: str = ""
    """The modality in the picture."""


@dataclass(frozen=True)
class LabelRemap:
    """The probable meaning of an undeclared label value."""

    value: str
    name: str
    """The label, or `background`."""
    to: int
    cases: tuple[str, ...]
    """Cases that hold the value."""
    why: str


@dataclass(frozen=True)
class Verification:
    """All that was found in a folder of scans or a store."""

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
        """Number of findings for which preparing excludes a case."""
        return sum(finding.severity == "error" for finding in self.findings)

    @property
    def warnings(self) -> int:
        """Number of findings with which preparing uses a case as it is."""
        return sum(finding.severity == "warning" for finding in self.findings)

    @property
    def exit_code(self) -> int:
        """0 without a finding but notes, 1 with warnings, 2 with errors."""
        return 2 if self.errors else 1 if self.warnings else 0

    @property
    def usable(self) -> tuple[str, ...]:
        """Cases without error: those that are prepared."""
        bad = {finding.case for finding in self.findings if finding.severity == "error"}
        return tuple(view.case for view in self.cases if view.case not in bad)

    def to_frame(self) -> "pd.DataFrame":
        """The findings as pandas' table: severity, case, where, expected, found, remedy."""
        import pandas as pd

        return pd.DataFrame(to_dict(self.findings), columns=[field.name for field in fields(Issue)])

    def to_dict(self) -> dict[str, Any]:
        """Plain values without pictures, for JSON."""
        bare = replace(self, cases=tuple(replace(view, picture=None) for view in self.cases))
        counts = {"errors": self.errors, "warnings": self.warnings, "usable": list(self.usable)}
        return {**to_dict(bare), **counts}


def in_order(findings: Iterable[Issue]) -> tuple[Issue, ...]:
    """Errors first, notes last, then by case and file."""
    return tuple(sorted(findings, key=lambda each: (SEVERITIES.index(each.severity), each.case, each.where)))
