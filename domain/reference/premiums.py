"""Plausible closing prices for generated contracts: nothing is quoted from a market, all follows from the reference level."""

from __future__ import annotations

from decimal import Decimal

from domain.instruments import Kind

CARRY = Decimal("0.065")  # a future stands above its underlying by this rate a year
DAYS_A_YEAR = 365
AT_THE_MONEY = Decimal("0.4")  # time value there, in deviations (Bachelier's formula)
FADED = Decimal("2.5")  # deviations from the strike at which none is left
HALF = Decimal("0.5")
NOTHING = Decimal(0)


def forward_of(reference: Decimal, days: int) -> Decimal:
    return reference * (1 + CARRY * days / DAYS_A_YEAR)


def deviation_of(reference: Decimal, volatility: Decimal, days: int) -> Decimal:
    """How far the underlying usually moves in that time, in rupees; never less than in half a day."""
    return reference * volatility * (max(Decimal(days), HALF) / DAYS_A_YEAR).sqrt()


def premium(forward: Decimal, strike: Decimal, deviation: Decimal, kind: Kind) -> Decimal:
    """What the option is worth now, and a time value that fades with the distance to its strike."""
    worth = forward - strike if kind is Kind.CALL else strike - forward
    nearness = max(1 - abs(worth) / (deviation * FADED), NOTHING)
    return max(worth, NOTHING) + deviation * AT_THE_MONEY * nearness * nearness


def nearest_tick(price: Decimal, tick: Decimal) -> Decimal:
    """At least one."""
    return max(int(price / tick + HALF), 1) * tick
