"""Money adds up to the paisa, and shows itself as Indians write it."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.money import ZERO, Money, value_of

PAISE = st.integers(min_value=-(10**15), max_value=10**15)


@pytest.mark.parametrize(
    ("paise", "shown"),
    [
        (0, "₹0.00"),
        (5, "₹0.05"),
        (-5, "-₹0.05"),
        (99_999, "₹999.99"),
        (100_000, "₹1,000.00"),
        (12_345_650, "₹1,23,456.50"),
        (-1_000_000_000, "-₹1,00,00,000.00"),
    ],
)
def test_it_is_shown_in_lakhs_and_crores(paise: int, shown: str) -> None:
    assert str(Money(paise)) == shown


@given(PAISE, PAISE)
def test_it_adds_and_takes_away_exactly(one: int, other: int) -> None:
    assert Money(one) + Money(other) - Money(other) == Money(one)
    assert -Money(one) + Money(one) == ZERO


def test_it_does_not_mix_with_plain_numbers() -> None:
    with pytest.raises(AttributeError):
        Money(100) + 1  # type: ignore[operator]


@given(PAISE)
def test_rupees_and_back_is_the_same(paise: int) -> None:
    assert Money.of_rupees(Money(paise).rupees) == Money(paise)


@pytest.mark.parametrize(
    ("price", "quantity", "multiplier", "paise"),
    [
        ("0.005", 1, 1, 1),  # half a paisa goes up
        ("0.0049", 1, 1, 0),
        ("83.2525", 1, 1000, 8_325_250),  # a currency contract: a thousand units, a tick of ₹0.0025
        ("1512.35", 7, 1, 1_058_645),
    ],
)
def test_a_value_is_rounded_once_and_half_up(price: str, quantity: int, multiplier: int, paise: int) -> None:
    assert value_of(Decimal(price), quantity, multiplier) == Money(paise)
