"""Prices: a seeded walk inside the day's band, the same for every run; or pinned by hand."""

from __future__ import annotations

from datetime import datetime
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Decimal
from hashlib import blake2b

from domain.instruments import Instrument

_DYNAMIC_BAND = Decimal(10)  # percent, where the exchange sets no fixed one
_OPTION_BAND = Decimal(40)
_OPTION_BAND_LEAST = Decimal(20)  # rupees
# The walk is a sum of waves: each turns after so many seconds, and weighs so many millionths of the close.
_WAVES = ((3600, 9_000), (600, 4_000), (60, 1_500), (5, 500))
_MILLION = 1_000_000


def to_tick(price: Decimal, tick: Decimal, rounding: str = ROUND_HALF_EVEN) -> Decimal:
    return (price / tick).quantize(Decimal(1), rounding) * tick


def is_on_tick(price: Decimal, tick: Decimal) -> bool:
    return price % tick == 0


class Prices:
    """Last traded prices. A price is a function of seed, instrument and time alone, so nothing has to be remembered."""

    def __init__(self, seed: str, *, tick_ms: int) -> None:
        self._seed = seed
        self.tick_ms = tick_ms
        self.pins: dict[str, Decimal] = {}
        self._walked: dict[str, tuple[int, Decimal]] = {}

    def last(self, instrument: Instrument, at: datetime) -> Decimal:
        pinned = self.pins.get(instrument.key)
        if pinned is not None:
            return pinned
        step = int(at.timestamp() * 1000) // self.tick_ms
        known = self._walked.get(instrument.key)
        if known is not None and known[0] == step:
            return known[1]
        price = self._walk(instrument, step * self.tick_ms)
        self._walked[instrument.key] = (step, price)
        return price

    def band(self, instrument: Instrument) -> tuple[Decimal, Decimal]:
        """The lowest and the highest price of the day."""
        close = instrument.close
        if instrument.is_option:
            width = max(close * _OPTION_BAND / 100, _OPTION_BAND_LEAST)
        else:
            width = close * (_DYNAMIC_BAND if instrument.band_percent is None else instrument.band_percent) / 100
        low = to_tick(close - width, instrument.tick, ROUND_CEILING)
        return max(low, instrument.tick), to_tick(close + width, instrument.tick, ROUND_FLOOR)

    def _walk(self, instrument: Instrument, at_ms: int) -> Decimal:
        millionths = sum(
            weight * self._wave(instrument.key, seconds * 1000, at_ms) // _MILLION for seconds, weight in _WAVES
        )
        price = to_tick(instrument.close * (_MILLION + millionths) / _MILLION, instrument.tick)
        low, high = self.band(instrument)
        return min(max(price, low), high)

    def _wave(self, key: str, period_ms: int, at_ms: int) -> int:
        """Between -1 and 1, in millionths: straight lines between drawn points."""
        point, rest = divmod(at_ms, period_ms)
        here, there = self._point(key, period_ms, point), self._point(key, period_ms, point + 1)
        return here + (there - here) * rest // period_ms

    def _point(self, key: str, period_ms: int, point: int) -> int:
        return draw(_MILLION * 2, self._seed, key, period_ms, point) - _MILLION


def draw(below: int, *what: object) -> int:
    """A whole number from 0 to below - 1, drawn by the words given: the same words, the same number."""
    digest = blake2b("|".join(map(str, what)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % below
