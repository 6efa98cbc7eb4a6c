"""Cases whose intensities are of another scale than the others'."""

from pathlib import Path

import pytest

from ossnet.data.verification.issues import CaseSummary, FileSummary
from ossnet.data.verification.ranges import odd_ranges


def case(name: str, *means: float) -> CaseSummary:
    images = tuple(
        FileSummary(Path(f"{name}_{channel}.nii"), means=(mean,)) for channel, mean in enumerate(means)
    )
    return CaseSummary(name, name, images, None, {})


CASES = [case("a", 300, 500), case("b", 2900, 400), case("c", 350, 450), case("d", 310, 420)]


def test_scanners_may_differ_by_ten() -> None:
    assert list(odd_ranges(CASES, ("FLAIR", "T1w"))) == []


@pytest.mark.parametrize(("mean", "middle"), [(0.4, 420), (1e5, 450)])
def test_another_scale_is_a_note_that_names_file_and_modality(mean: float, middle: int) -> None:
    (found,) = odd_ranges([*CASES, case("e", 320, mean)], ("FLAIR", "T1w"))
    assert (found.severity, found.case, found.where) == ("note", "e", "e_1.nii")
    assert (
        f"T1w within 30 times of their median, {middle}, found 1 of 5 beyond, the farthest {mean:.3g}"
        in found.what
    )


def test_computed_tomography_and_few_cases_have_none() -> None:
    odd = [case("a", 30), case("b", -400), case("c", 25), case("d", 1e5)]
    assert list(odd_ranges(odd, ("CT",))) == []
    assert list(odd_ranges(odd[1:], ("T1w",))) == []
