"""An evaluation as one HTML page that needs nothing else: the figures, and the telling cases as pictures."""

import base64
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

_STYLE = (
    "body{font:15px/1.45 system-ui,sans-serif;margin:2rem auto;max-width:72rem;padding:0 1rem;color:#222}"
    "table{border-collapse:collapse;margin:1rem 0}th,td{padding:.25rem .5rem;border-bottom:1px solid #ddd;"
    "text-align:right;white-space:pre}th:first-child,td:first-child{text-align:left}"
    "img{width:100%;max-width:56rem;display:block}small{color:#666}"
)
_MEASURES = {
    "dice": "Dice",
    "iou": "IoU",
    "hd95_mm": "HD95 (mm)",
    "nsd": "NSD",
    "volume_error_ml": "volume error\n(ml)",
}
_COUNTS = {
    "false_positives_per_case": "false\npositives\na case",
    "false_negative_cases": "false\nnegative\ncases",
    "false_positive_cases": "false\npositive\ncases",
    "ece": "ECE",
}
_ECE = {
    "unseen": "",
    "cross-fitted": "; of each case it was fitted on, at that fitted on the half of them without it",
    "in-sample": ", which was fitted on the very case that is judged: expect a larger one of others",
}


def render(summary: Mapping[str, Any], overlays: Mapping[str, Path]) -> str:
    """The page.

    Args:
        summary: as `evaluate` makes it.
        overlays: pictures by what the case stands for.
    """
    policy = escape(summary["policy"])
    tolerance = f"NSD at {summary['nsd_tolerance_mm']:g} mm"
    parts = [
        f"<h1>{summary['cases']} cases ({escape(str(summary['split']))})</h1>",
        _classes(summary["classes"]),
        f"<p>Means over cases, with their 95 % bootstrap interval. {tolerance}. Empty: {policy}.</p>",
    ]
    if "temperature" in summary:
        heat = f"{summary['temperature']:.3g}"
        note = _ECE[summary["ece_protocol"]]
        parts.append(f"<p>ECE: expected calibration error near foreground, at temperature {heat}{note}.</p>")
    if "baseline" in summary:
        parts += ["<h2>This checkpoint minus the other</h2>", _difference(summary["baseline"]["difference"])]
    for rank, path in overlays.items():
        picture = base64.b64encode(path.read_bytes()).decode()
        parts.append(
            f'<h2>{escape(rank)}</h2><img alt="{escape(path.stem)}" src="data:image/png;base64,{picture}">'
        )
    head = '<!doctype html><html lang="en"><meta charset="utf-8"><title>Evaluation</title>'
    return head + f"<style>{_STYLE}</style>" + "".join(parts) + "</html>"


def _classes(classes: Mapping[str, Any]) -> str:
    counts = {key: name for key, name in _COUNTS.items() if all(key in found for found in classes.values())}
    rows = [["class", *_MEASURES.values(), "lesions\nfound", *counts.values()]]
    for name, found in classes.items():
        means = [
            f"{s['mean']:.3f}\n{s['mean_low']:.3f} to {s['mean_high']:.3f}" for s in map(found.get, _MEASURES)
        ]
        lesions = f"{found['lesions_detected']} of {found['lesions']}"
        rows.append([name, *means, lesions, *(f"{found[key]:.3g}" for key in counts)])
    return _table(rows)


def _difference(measures: Mapping[str, Any]) -> str:
    rows = [["measure", "mean difference", "95 % interval", "larger", "smaller", "p (Wilcoxon)"]]
    for name, found in measures.items():
        low, high = found["interval"]["low"], found["interval"]["high"]
        counts = [str(found["better"]), str(found["worse"])]
        interval = f"{low:+.4f} to {high:+.4f}"
        rows.append([_MEASURES[name], f"{found['mean']:+.4f}", interval, *counts, f"{found['p_value']:.3g}"])
    return _table(rows)


def _table(rows: list[list[str]]) -> str:
    head, *body = rows
    lines = ["<tr>" + "".join(f"<th>{escape(cell)}</th>" for cell in head) + "</tr>"]
    lines += ["<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in body]
    return "<table>" + "".join(lines) + "</table>"
