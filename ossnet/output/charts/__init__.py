"""Charts as inline SVG: read without script, printed, in the colors of a light or a dark page."""

from ossnet.output.charts.bars import bars, histogram
from ossnet.output.charts.cases import CaseMarks, case_chart
from ossnet.output.charts.parallel import Axis, parallel_coordinates
from ossnet.output.charts.trials import Curve, TrialMark, learning_curves, trade_off

__all__ = [
    "Axis",
    "CaseMarks",
    "Curve",
    "TrialMark",
    "bars",
    "case_chart",
    "histogram",
    "learning_curves",
    "parallel_coordinates",
    "trade_off",
]
