"""Findings as one HTML page that needs no other file."""

import html
from collections.abc import Iterable, Sequence
from pathlib import Path

from ossnet.data.verification import formatting as words
from ossnet.data.verification.issues import CaseSummary, Issue, Verification
from ossnet.data.verification.remap import option
from ossnet.data.verification.thumbnail import COLORS
from ossnet.errors import UserError
from ossnet.output.atomic_write import atomic_write

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 84rem; padding: 0 1rem;
  color: #1d2330; }
h1 { font-size: 1.5rem; }
h2 { font-size: 1.15rem; margin-top: 2.2rem; }
table { border-collapse: collapse; }
td, th { padding: .3rem .8rem .3rem 0; text-align: left; vertical-align: top;
  border-bottom: 1px solid #e3e6ec;
  overflow-wrap: anywhere; }
th { font-weight: 600; color: #566; white-space: nowrap; }
.error, .warning { font-weight: 600; }
td.error, td.warning { overflow-wrap: normal; }
.error { color: #b3261e; }
.warning { color: #9a6700; }
.cases { display: grid; grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr)); gap: 1rem; }
.case { border: 1px solid #d9dde5; border-radius: 6px; overflow: hidden; }
.case.has-error { border-color: #b3261e; }
.case.has-warning { border-color: #d4a017; }
.picture { background: #000; height: 176px; display: flex; align-items: center; justify-content: center;
  color: #999; }
.case h3 { font-size: .95rem; margin: .5rem .7rem .2rem; overflow-wrap: anywhere; }
.case p { margin: .2rem .7rem; font-size: .85rem; overflow-wrap: anywhere; }
.case p:last-child { margin-bottom: .7rem; }
.case span { color: #667; }
.key { display: inline-block; width: .8em; height: .8em; border-radius: 50%; }
code { background: #f0f2f6; padding: .1rem .3rem; border-radius: 3px; }
"""


def write_page(verification: Verification, path: Path) -> Path:
    """Write the page aside, then rename it into place.

    Raises:
        UserError: it cannot be written there.
    """
    try:
        atomic_write(path, render(verification))
    except OSError as error:
        msg = f"{path}: cannot be written ({error.strerror}); name another --output"
        raise UserError(msg) from error
    return path


def render(verification: Verification) -> str:
    """The page: summary, findings, labels, what odd labels may mean, and a picture of every case."""
    title = f"Verification of {verification.root.name}"
    return "\n".join(
        [
            "<!doctype html><html lang=en><meta charset=utf-8>",
            "<meta name=viewport content='width=device-width'>",
            f"<title>{html.escape(title)}</title><style>{_STYLE}</style>",
            f"<h1>{html.escape(title)}</h1>",
            _table((), words.summary(verification).items()),
            *_findings(verification.findings, verification.root),
            *_remap(verification),
            "<h2>Labels</h2>",
            _table(("value", "name", "cases", "share of voxels"), words.label_rows(verification)),
            "<h2>Cases</h2>",
            f"<p>{_legend(verification)}</p>" if verification.labels else "",
            "<div class=cases>",
            *(_case(view, verification) for view in _worst_first(verification)),
            "</div></html>",
        ]
    )


def _findings(findings: Sequence[Issue], root: Path) -> list[str]:
    if not findings:
        return ["<h2>Findings</h2><p>None.</p>"]
    head = "<tr><th></th><th>case</th><th>file</th><th>what</th><th>remedy</th></tr>"
    rows = [
        f"<tr><td class={each.severity}>{each.severity}</td>"
        + "".join(
            f"<td>{html.escape(text)}</td>"
            for text in (each.case, _below(Path(each.where), root), each.what, each.remedy)
        )
        + "</tr>"
        for each in findings
    ]
    return ["<h2>Findings</h2>", f"<table>{head}{''.join(rows)}</table>"]


def _remap(verification: Verification) -> list[str]:
    if not verification.remap:
        return []
    rows = [
        (each.value, f"{each.name} ({each.to})", str(len(each.cases)), each.why)
        for each in verification.remap
    ]
    change = option(verification.remap, verification.labels)
    told = f"<p>To read them so: <code>jobs/prepare.py {html.escape(change)}</code></p>" if change else ""
    return ["<h2>Odd label values</h2>", _table(("value", "probably", "cases", "why"), rows), told]


def _below(file: Path, root: Path) -> str:
    return str(file.relative_to(root)) if file.is_relative_to(root) and file != root else str(file)


def _worst_first(verification: Verification) -> list[CaseSummary]:
    """Cases as their findings are ordered, then those without."""
    order = {finding.case: -number for number, finding in enumerate(reversed(verification.findings), 1)}
    return sorted(verification.cases, key=lambda view: order.get(view.case, 1))


def _case(view: CaseSummary, verification: Verification) -> str:
    mine = [finding for finding in verification.findings if finding.case == view.case]
    mark = f" has-{mine[0].severity}" if mine else ""  # errors come first
    facts = dict(zip(words.COLUMNS, words.row(view, verification), strict=True))
    lines = [
        f"<p><span>{name}</span> {html.escape(facts[name])}</p>"
        for name in words.COLUMNS[1:-1]
        if facts[name]
    ]
    lines += [f"<p class={each.severity}>{html.escape(each.what)}</p>" for each in mine]
    picture = f"<img alt='a slice' src='{view.picture}'>" if view.picture else "no picture"
    return (
        f"<div class='case{mark}'><div class=picture>{picture}</div>"
        f"<h3>{html.escape(view.case)}</h3>{''.join(lines)}</div>"
    )


def _legend(verification: Verification) -> str:
    keys = zip(COLORS * (1 + len(verification.labels) // len(COLORS)), verification.labels, strict=False)
    return " &nbsp; ".join(
        f"<i class=key style='background:{color}'></i> {html.escape(name)}" for color, name in keys
    )


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "<tr>" + "".join(f"<th>{html.escape(name)}</th>" for name in columns) + "</tr>" if columns else ""
    body = ["<tr>" + "".join(f"<td>{html.escape(text)}</td>" for text in row) + "</tr>" for row in rows]
    return f"<table>{head}{''.join(body)}</table>"
