"""How far from its reference price an instrument may be ordered: circuit bands, and limit price protection (LPP).

Shares with futures and options have no fixed band but a dynamic one, which begins at 10 %. LPP is the derivatives' rule;
where sources differ, the wider figure is taken, so that nothing is refused here that the exchange would take.
"""

from __future__ import annotations

from decimal import Decimal
from functools import lru_cache
from typing import NamedTuple

from domain.instruments import Instrument, Segment
from domain.rejections import plain, shown

DYNAMIC_PERCENT = Decimal(10)
LPP_LOW = Decimal(50)  # up to this reference price LPP is an amount, above it a share
CURRENCY_FUTURE_PERCENT = Decimal(3)  # for contracts of up to six months; not verified
HUNDRED = Decimal(100)


class Band(NamedTuple):
    low: Decimal
    high: Decimal
    rule: str


def band_of(instrument: Instrument, reference: Decimal) -> Band | None:
    """The prices an order may have, and in words why; None where no rule is known.

    Args:
        reference: the price the band is counted from, in rupees: the last close, or for LPP the latest price.
    """
    if not instrument.is_derivative:
        percent = instrument.band_percent
        if percent is None:
            return _share(reference, DYNAMIC_PERCENT, "the dynamic band")
        return _share(reference, percent, "the circuit band")
    if instrument.segment is Segment.CURRENCY:
        return None if instrument.is_option else _share(reference, CURRENCY_FUTURE_PERCENT, "the operating range")
    if instrument.segment is not Segment.EQUITY_DERIVATIVES:
        return None
    if instrument.is_option:
        if instrument.exchange == "BFO":
            return _amount(reference, max(reference * 60 / HUNDRED, Decimal(30)), "60 %, at least ₹30")
        return _either(reference, Decimal(20), Decimal(40))
    if instrument.exchange == "BFO":
        return _amount(reference, max(reference * 3 / HUNDRED, Decimal("1.5")), "3 %, at least ₹1.50")
    if instrument.is_index:
        return _amount(reference, max(reference * 3 / HUNDRED, Decimal(200)), "3 %, at least ₹200")
    return _either(reference, Decimal("1.5"), Decimal(3))


def stop_limit_gap(instrument: Instrument, trigger: Decimal) -> Decimal | None:
    """The most, in rupees, that NSE lets a stop order's limit lie from its trigger; None elsewhere."""
    if instrument.exchange not in ("NSE", "NFO"):
        return None
    if instrument.is_option:
        return Decimal(10) if trigger <= LPP_LOW else trigger * 20 / HUNDRED
    return Decimal("1.5") if trigger <= LPP_LOW else trigger * 3 / HUNDRED


def _either(reference: Decimal, rupees: Decimal, percent: Decimal) -> Band:
    if reference <= LPP_LOW:
        return _amount(reference, rupees, shown(rupees))
    return _amount(reference, reference * percent / HUNDRED, f"{plain(percent)} %")


def _amount(reference: Decimal, allowed: Decimal, words: str) -> Band:
    return Band(reference - allowed, reference + allowed, f"limit price protection: {words}")


@lru_cache(maxsize=4096)  # a day's closes are the reference again and again
def _share(reference: Decimal, percent: Decimal, rule: str) -> Band:
    allowed = reference * percent / HUNDRED
    return Band(reference - allowed, reference + allowed, f"{rule} of {plain(percent)} %")
