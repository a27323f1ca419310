"""Whether an order trades at a price, how much of it, and at what price. Pure: seed and order decide."""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

from brokers.simulator.book import SimOrder
from brokers.simulator.prices import draw, to_tick
from brokers.simulator.settings import Settings
from domain.instruments import Instrument

_OWN_PROTECTION = Decimal(3)  # percent, where the broker chooses


def triggers(order: SimOrder, last: Decimal) -> bool:
    return last >= order.terms.trigger if order.is_buy else last <= order.terms.trigger


def crosses(order: SimOrder, last: Decimal) -> bool:
    """Whether the order can trade now: it waits for nothing, and its limit allows the last price."""
    if order.waits_for_trigger:
        return False
    limit = order.terms.limit
    return limit is None or (limit >= last if order.is_buy else limit <= last)


def next_quantity(order: SimOrder, settings: Settings, seed: str) -> int:
    """The quantity of the order's next trade: whole lots, at most what is pending, at least one lot."""
    lot = order.instrument.lot_size
    left = max(1, _planned_trades(order, settings, seed) - len(order.trades))
    wanted = -(-order.pending // (left * lot)) * lot
    if settings.liquidity_max is not None:
        wanted = min(wanted, max(lot, settings.liquidity_max // lot * lot))
    return min(wanted, order.pending)


def trade_price(order: SimOrder, last: Decimal, band: tuple[Decimal, Decimal]) -> Decimal:
    """The last price, one tick worse for each trade the order had before, never past its limit or the band."""
    slip = order.instrument.tick * len(order.trades)
    limit = order.terms.limit
    if order.is_buy:
        return min(last + slip, band[1] if limit is None else limit)
    return max(last - slip, band[0] if limit is None else limit)


def runs_dry(order: SimOrder, settings: Settings, seed: str) -> bool:
    """Whether the market has nothing more for the order until the next tick: at most once, after its first trade."""
    return len(order.trades) == 1 and draw(100, seed, order.sequence, "dry") < settings.dry_percent


def protected_price(
    instrument: Instrument, *, buys: bool, last: Decimal, protection: Decimal | None, band: tuple[Decimal, Decimal]
) -> Decimal:
    """The limit that stands for a market order: so many percent worse than the last price, inside the band."""
    percent = _OWN_PROTECTION if protection is None or protection < 0 else protection
    if buys:
        return min(to_tick(last * (100 + percent) / 100, instrument.tick, ROUND_FLOOR), band[1])
    return max(to_tick(last * (100 - percent) / 100, instrument.tick, ROUND_CEILING), band[0])


def _planned_trades(order: SimOrder, settings: Settings, seed: str) -> int:
    if settings.trades_max == 1 or draw(100, seed, order.sequence, "partial") >= settings.partial_percent:
        return 1
    return 2 + draw(settings.trades_max - 1, seed, order.sequence, "trades")
