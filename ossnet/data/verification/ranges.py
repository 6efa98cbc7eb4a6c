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
    """A warning for each case and modality whose mean is far from that of the others; of CT there is none, as
    its values are fixed and may be negative."""
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
        for view, mean in known if middle > 0 else []:
            if not middle / _FACTOR <= mean <= middle * _FACTOR:
                file = view.images[channel if len(view.images) == len(modalities) else 0].path
                yield Issue.warning(
                    view.case,
                    file,
                    expected=f"a mean of {modality} like the others', {middle:.3g}",
                    found=f"{mean:.3g}",
                    remedy="check its slope, its unit, and whether it is this modality",
                )
