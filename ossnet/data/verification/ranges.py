"""Cases whose intensities are of another scale than the others': a unit, a slope or another kind of scan."""

from collections.abc import Iterator, Sequence
from statistics import median

from ossnet.data.imaging.normalization import default_normalization
from ossnet.data.layouts.modalities import base_name
from ossnet.data.verification.distributions import modality_means
from ossnet.data.verification.issues import CaseSummary, Issue

_FACTOR = 30.0
"""By which a mean may differ from the others' median: scanners differ by ten."""
_LEAST_CASES = 4


def odd_ranges(views: Sequence[CaseSummary], modalities: Sequence[str]) -> Iterator[Issue]:
    """A note for each modality whose means are far from each other, with the farthest case; for CT there is
    none, as its values are fixed and may be negative."""
    means = {view.case: modality_means(view) for view in views}
    for channel, modality in enumerate(modalities):
        if default_normalization(base_name(modality)) == "ct":
            continue
        known = [
            (view, mean)
            for view in views
            if len(means[view.case]) == len(modalities) and (mean := means[view.case][channel]) is not None
        ]
        middle = median([mean for _, mean in known]) if len(known) >= _LEAST_CASES else 0.0
        odd = [(view, mean) for view, mean in known if middle > 0 and not _is_near(mean, middle)]
        if odd:
            view, mean = max(odd, key=lambda each: abs(each[1] - middle))
            yield Issue.note(
                view.case,
                view.images[channel if len(view.images) == len(modalities) else 0].path,
                expected=f"means of {modality} within {_FACTOR:.0f} times of their median, {middle:.3g}",
                found=f"{len(odd)} of {len(known)} beyond, the farthest {mean:.3g}",
                remedy="check slopes, units, and whether all are this modality",
            )


def _is_near(mean: float, middle: float) -> bool:
    return middle / _FACTOR <= mean <= middle * _FACTOR
