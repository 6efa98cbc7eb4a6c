"""Findings as one HTML page that needs no other file."""

from pathlib import Path
from typing import Any

from ossnet.data.labels.task import BACKGROUND
from ossnet.data.verification import formatting
from ossnet.data.verification.distributions import distributions
from ossnet.data.verification.issues import CaseSummary, Verification
from ossnet.data.verification.remap import option
from ossnet.output.atomic_write import atomic_write
from ossnet.output.html import render_page
from ossnet.output.palette import color


def write_page(verification: Verification, path: Path) -> Path:
    """Write the page atomically.

    Raises:
        UserError: it cannot be written there.
    """
    atomic_write(path, render(verification))
    return path


def render(verification: Verification) -> str:
    """The text of the page: findings, odd labels, distributions, labels, a picture of every case."""
    return render_page(
        "verification.html",
        title=f"Verification of {verification.root.name}",
        facts=_facts(verification),
        counts={
            "all": len(verification.findings),
            "error": verification.errors,
            "warning": verification.warnings,
            "note": len(verification.findings) - verification.errors - verification.warnings,
        },
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
        distributions=distributions(verification),
        legend=_legend(verification),
        modality=next((view.modality for view in verification.cases if view.modality), "the first modality"),
        cases=[_case(view, verification) for view in _worst_first(verification)],
    )


def _relative(file: Path, root: Path) -> str:
    return str(file.relative_to(root)) if file.is_relative_to(root) and file != root else str(file)


def _worst_first(verification: Verification) -> list[CaseSummary]:
    """Cases as their findings are ordered, then those without."""
    order = {finding.case: -number for number, finding in enumerate(reversed(verification.findings), 1)}
    return sorted(verification.cases, key=lambda view: order.get(view.case, 1))


def _facts(verification: Verification) -> dict[str, str]:
    store = verification.layout == "store"
    cases = formatting.summary(verification)
    return {
        "store" if store else "source": str(verification.root),
        "layout": "" if store else verification.layout,
        "modalities": ", ".join(verification.modalities),
        "cases": cases["cases"],
        "findings": cases["findings"],
    }


def _legend(verification: Verification) -> list[tuple[str, str]]:
    """The color of each label, in the order in which pictures draw them; background has none."""
    names = [name for name, value in verification.labels.items() if value != BACKGROUND]
    return [(color(position), name) for position, name in enumerate(names)]


def _case(view: CaseSummary, verification: Verification) -> dict[str, Any]:
    """The values of a case for the template; errors come first among its findings."""
    facts = dict(zip(formatting.COLUMNS, formatting.row(view, verification), strict=True))
    findings = [finding for finding in verification.findings if finding.case == view.case]
    return {
        "name": view.case,
        "picture": view.picture,
        "modality": view.modality,
        "facts": {name: fact for name, fact in facts.items() if name not in {"case", "findings"}},
        "findings": findings,
        "severities": " ".join(dict.fromkeys(finding.severity for finding in findings)),
    }
