"""The files of an evaluation, written aside and renamed."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ossnet.evaluation.cases import CaseScore
from ossnet.output.atomic_write import atomic_write


def write_cases(path: Path, scores: Sequence[CaseScore]) -> None:
    """A row a case, a column a class and measure."""
    rows = [_row(score) for score in scores]
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    atomic_write(path, text.getvalue())


def _row(score: CaseScore) -> dict[str, Any]:
    row: dict[str, Any] = {"case": score.case, "dice": score.dice, "iou": score.iou}
    for name, overlap in score.overlaps.items():
        row[f"dice/{name}"] = overlap.dice
        row[f"iou/{name}"] = overlap.iou
        row[f"label_voxels/{name}"] = overlap.label_voxels
        row[f"predicted_voxels/{name}"] = overlap.predicted_voxels
    for name, details in score.details.items():
        row |= {f"{measure}/{name}": value for measure, value in details.values().items()}
    return row
