from .cases import CaseScore as CaseScore, score_cases as score_cases
from .metrics import OverlapMetrics as OverlapMetrics, dice_iou as dice_iou
from .summary import summarize as summarize
