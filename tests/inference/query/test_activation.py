"""Margins say what is decided, and by how much."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ossnet.data.labels.codes import in_class
from ossnet.inference.query.activation import margins, predict_classes


@given(st.integers(1, 5), st.booleans(), st.integers(0, 2**16))
def test_a_margin_is_positive_where_its_class_is_decided(count: int, overlapping: bool, seed: int) -> None:
    logits = torch.randn(200, count, generator=torch.Generator().manual_seed(seed))
    codes = predict_classes(logits, overlapping=overlapping)
    margin = margins(logits, overlapping=overlapping)
    assert margin.shape[1] == (count if overlapping or count == 1 else count - 1)
    for index, of_class in enumerate(margin.T):
        assert torch.equal(of_class > 0, in_class(codes, index, overlapping=overlapping))


def test_a_margin_is_what_the_logit_lacks() -> None:
    logits = torch.tensor([[2.0, 5.0, 1.0], [3.0, 1.0, -1.0]])
    expected = torch.tensor([[3.0, -4.0], [-2.0, -4.0]])
    assert torch.equal(margins(logits, overlapping=False), expected)
    assert torch.equal(margins(logits, overlapping=True), logits)


@pytest.mark.parametrize("count", [2, 4])
def test_raising_a_logit_by_its_margin_makes_a_tie(count: int) -> None:
    logits = torch.randn(50, count, dtype=torch.double)
    margin = margins(logits, overlapping=False)
    for index in range(1, count):
        raised = logits.clone()
        raised[:, index] -= margin[:, index - 1]
        others = torch.cat([raised[:, :index], raised[:, index + 1 :]], 1)
        torch.testing.assert_close(raised[:, index], others.amax(1))
