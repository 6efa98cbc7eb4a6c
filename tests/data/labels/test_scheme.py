"""What a scheme decides, by how much, and where schemes come from."""

import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ossnet.data import Task
from ossnet.data.labels.scheme import ClassScheme
from ossnet.models import UNetConfig


@given(st.integers(1, 5), st.booleans(), st.integers(0, 2**16))
def test_a_margin_is_positive_where_its_class_is_decided(count: int, overlapping: bool, seed: int) -> None:
    logits = torch.randn(200, count, generator=torch.Generator().manual_seed(seed))
    scheme = ClassScheme(count, overlapping) if overlapping or count == 1 else ClassScheme(count - 1)
    codes = scheme.decide(logits)
    margin = scheme.margins(logits)
    assert margin.shape[1] == (count if overlapping or count == 1 else count - 1)
    for index, of_class in enumerate(margin.T):
        assert torch.equal(of_class > 0, scheme.in_class(codes, index))


@given(st.integers(1, 5), st.booleans(), st.integers(0, 2**16))
def test_probabilities_decide_as_their_logits_do(count: int, overlapping: bool, seed: int) -> None:
    logits = torch.randn(4 * 5 * 6, count, generator=torch.Generator().manual_seed(seed)).double()
    exclusive = not overlapping and count > 1
    scheme = ClassScheme(count - 1) if exclusive else ClassScheme(count, overlapping)
    probabilities = logits.softmax(1)[:, 1:] if exclusive else logits.sigmoid()
    codes = scheme.decide_probabilities(probabilities.T.reshape(-1, 4, 5, 6))
    assert torch.equal(codes.reshape(-1), scheme.decide(logits))
    assert codes.dtype == torch.uint8


def test_a_margin_is_what_the_logit_lacks() -> None:
    logits = torch.tensor([[2.0, 5.0, 1.0], [3.0, 1.0, -1.0]])
    expected = torch.tensor([[3.0, -4.0], [-2.0, -4.0]])
    assert torch.equal(ClassScheme(2).margins(logits), expected)
    assert torch.equal(ClassScheme(3, overlapping=True).margins(logits), logits)


@pytest.mark.parametrize("count", [2, 4])
def test_raising_a_logit_by_its_margin_makes_a_tie(count: int) -> None:
    logits = torch.randn(50, count, dtype=torch.double)
    margin = ClassScheme(count - 1).margins(logits)
    for index in range(1, count):
        raised = logits.clone()
        raised[:, index] -= margin[:, index - 1]
        others = torch.cat([raised[:, :index], raised[:, index + 1 :]], 1)
        torch.testing.assert_close(raised[:, index], others.amax(1))


def test_the_scheme_of_a_task_is_that_of_its_network() -> None:
    labels = {"a": 1, "b": 2}
    for regions, overlapping in (({}, False), ({"all": ("a", "b"), "b": ("b",)}, True)):
        task = Task(modalities=("MR",), labels=labels, regions=regions)
        config = UNetConfig(classes=2, overlapping=overlapping)
        assert replace(task.scheme, names=()) == ClassScheme.of(config)
        assert task.scheme.names == task.class_names


def test_a_single_class_never_overlaps() -> None:
    assert ClassScheme.of(UNetConfig(classes=1, overlapping=True)) == ClassScheme(1)


def test_a_code_holds_eight_regions() -> None:
    assert ClassScheme(8, overlapping=True).membership.shape == (256, 8)
    with pytest.raises(ValueError, match="at most 8 overlapping regions, found 9"):
        ClassScheme(9, overlapping=True)


def test_schemes_are_made_without_torch() -> None:
    script = (
        "import sys; from ossnet.data import Task\n"
        "assert Task(('MR',), {'a': 1}).scheme.membership.shape == (2, 1)\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
