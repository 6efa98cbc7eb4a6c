"""Findings as one HTML page that needs no other file."""

from pathlib import Path
from typing import Any

from ossnet.data.verification import formatting
from ossnet.data.verification.issues import CaseSummary, Verification
from ossnet.data.verification.remap import option
from ossnet.data.verification.thumbnail import COLORS
from ossnet.output.atomic_write import atomic_write
from ossnet.output.html import render_page


def write_page(verification: Verification, path: Path) -> Path:
    """Write the page atomically.

    Raises:
        UserError: it cannot be written there.
    """
    atomic_write(path, render(verification))
    return path


def render(verification: Verification) -> str:
    """The text of the page: summary, findings, labels, what odd labels may mean, a picture of every case."""
    return render_page(
        "verification.html",
        title=f"Verification of {verification.root.name}",
        summary=formatting.summary(verification).items(),
        findings=[
            (each.severity, each.case, _relative(Path(each.where), verification.root), each.what, each.remedy)
            for each in verification.findings
        ],
        remap=[
            (each.value, f"{each.name} ({each.to})", str(len(each.cases)), each.why)
            for each in verification.remap
        ],
        option=option(verification.remap, verification.labels),
        labels=formatting.label_rows(verification),
        legend=list(
            zip(COLORS * (1 + len(verification.labels) // len(COLORS)), verification.labels, strict=False)
        ),
        cases=[_case(view, verification) for view in _worst_first(verification)],
    )


def _relative(file: Path, root: Path) -> str:
    return str(file.relative_to(root)) if file.is_relative_to(root) and file != root else str(file)


def _worst_first(verification: Verification) -> list[CaseSummary]:
    """Cases as their findings are ordered, then those without."""
    order = {finding.case: -number for number, finding in enumerate(reversed(verification.findings), 1)}
    return sorted(verification.cases, key=lambda view: order.get(view.case, 1))


def _case(view: CaseSummary, verification: Verification) -> dict[str, Any]:
    """The values of a case for the template; errors come first among its findings."""
    facts = zip(formatting.COLUMNS, formatting.row(view, verification), strict=True)
    return {
        "name": view.case,
        "picture": view.picture,
        "facts": [(name, fact) for name, fact in [*facts][1:-1] if fact],
        "findings": [finding for finding in verification.findings if finding.case == view.case],
    }
