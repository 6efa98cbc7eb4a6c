"""What a limit refuses, by network, with an option that is enough and that a job reads."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ossnet.commands._values import budget_gib, parse_duration
from ossnet.planning.refusals import Refusal


@given(st.floats(1e-5, 1e4))
def test_the_option_is_enough_and_hardly_more(least: float) -> None:
    for constraint in ("memory", "inference"):
        option, value = Refusal("unet-3d", 1, least, constraint).option.split()
        found = budget_gib(value)
        assert found is not None
        assert least <= found * (1 + 1e-5) + 1e-9  # whole bytes
        assert found <= 1.02 * least + 1e-9
        assert option in {"--memory-budget", "--inference-budget"}
    _, value = Refusal("unet-3d", 1, least, "seconds").option.split()
    assert least <= parse_duration(value) <= 1.02 * least


def test_each_network_and_limit_is_counted_by_itself() -> None:
    found = Refusal.collect(
        [("a", "memory", 2.0), ("b", "memory", 3.0), ("b", "memory", 2.5), ("b", "seconds", 1.0)]
    )
    assert found[0] == Refusal("b", 2, 2.5)
    assert set(found[1:]) == {Refusal("a", 1, 2.0), Refusal("b", 1, 1.0, "seconds")}
    assert Refusal.collect([]) == ()


@pytest.mark.parametrize(
    ("refusal", "text"),
    [
        (Refusal("b", 2, 2.5), "2 of b (the smallest takes 2.5 GiB: it needs --memory-budget 2.5GiB)"),
        (
            Refusal("b", 1, 0.0123, "inference"),
            "1 of b (the smallest takes 0.0123 GiB in inference: it needs --inference-budget 0.0124GiB)",
        ),
    ],
)
def test_a_refusal_is_a_line(refusal: Refusal, text: str) -> None:
    assert str(refusal) == text
