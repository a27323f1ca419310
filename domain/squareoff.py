"""Square-off: the orders that close an account's positions, told from what it has traded and what is still under way.

A position never changes its sign by it: what orders on the other side may still take is left to them, and so is what
isn't a whole lot.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from domain.bands import band_of
from domain.errors import Fault, Malformed
from domain.instruments import Instrument
from domain.intents import QUANTITY_MAX, InstrumentKey, Percent, Word
from domain.money import PAISE_PER_RUPEE
from domain.orders import Product, Side
from domain.rules import SLICES_MAX
from domain.settings import Settings
from domain.valuation import HUNDRED, MARKET_BUY

LINES_MAX = 500  # of one intent
DISTANCE_MAX = 20
POSITIONS = frozenset({Product.MIS, Product.NRML})  # closed without being named
OWNED = frozenset({Product.CNC, Product.MTF})  # a sale beyond what was bought here sells older holdings: it is no short


class _Form(BaseModel):
    model_config = ConfigDict(
        extra="forbid", alias_generator=to_camel, frozen=True, populate_by_name=True, use_attribute_docstrings=True
    )


class PositionFilter(_Form):
    """Which positions; each word narrows."""

    broker: Word | None = None
    account: Word | None = None
    instrument: InstrumentKey | None = None
    product: Product | None = None
    """Without it MIS and NRML; CNC and MTF are closed only where they are named."""

    strategy: Word | None = None
    """What orders of this strategy have made of the position, never more than the account holds."""

    @property
    def is_empty(self) -> bool:
        return not self.model_dump(exclude_none=True)


class SquareOff(_Form):
    """Close positions: one order on the other side for each, at market or with a limit."""

    filter: PositionFilter = PositionFilter()
    all: Annotated[bool, Field(strict=True)] = False
    """Every position of every account: must be said, an empty filter alone isn't enough."""

    cancel_open: Annotated[bool, Field(strict=True)] = False
    """Cancel the open orders in the same instruments first; what they may still take is closed once that is certain."""

    order_type: Literal["MARKET", "LIMIT"] = "MARKET"
    market_protection: Percent | None = None
    """Percent from the last price that a MARKET order may go; -1 leaves it to the broker."""

    distance_percent: Percent | None = None
    """Of a LIMIT: how far beyond the reference price, so that it trades: below it to sell, above it to buy."""

    max_unsent_sec: Annotated[int, Field(strict=True, ge=1, le=86_400)] | None = None
    """An order that was not sent within so many seconds is not sent any more."""

    dry_run: Annotated[bool, Field(strict=True)] = False
    """Only say what would be closed."""

    def check(self) -> None:
        """Raises Malformed where it doesn't say what it means."""
        faults = []
        if self.filter.is_empty and not self.all:
            faults.append(Fault("/all", "REQUIRED", "name what to close in `filter`, or say `all`: true for everything"))
        if self.all and not self.filter.is_empty:
            faults.append(Fault("/all", "BAD_VALUE", "`all` is everything: leave `filter` out, or leave `all` out"))
        if self.order_type == "LIMIT":
            if self.distance_percent is None:
                faults.append(Fault("/distancePercent", "REQUIRED", "a LIMIT needs its distance from the reference price"))
            elif not 0 <= self.distance_percent <= DISTANCE_MAX:
                faults.append(Fault("/distancePercent", "BAD_VALUE", f"must be from 0 to {DISTANCE_MAX} percent"))
            if self.market_protection is not None:
                faults.append(Fault("/marketProtection", "BAD_VALUE", "a LIMIT has its price: this is for MARKET"))
        elif self.distance_percent is not None:
            faults.append(Fault("/distancePercent", "BAD_VALUE", "a MARKET order has no limit: this is for LIMIT"))
        if faults:
            raise Malformed(tuple(faults))


@dataclass(frozen=True, slots=True)
class Traded:
    """What one strategy's trades (None: of orders without one) have made of a position: bought less sold."""

    account_id: str
    instrument: str
    product: Product
    strategy: str | None
    net: int


@dataclass(frozen=True, slots=True)
class UnderWay:
    """An order that can still move a position, or has moved it beyond the trades that are known.

    Without an account it isn't known yet where it goes: perhaps to any account of its user.
    """

    account_id: str | None
    broker: str | None
    instrument: str
    product: Product
    strategy: str | None
    side: Side
    untold: int  # of MIS: filled, and its trades are not known yet
    pending: int  # may still be filled

    @property
    def sign(self) -> int:
        return 1 if self.side is Side.BUY else -1


class Why(StrEnum):
    """Why something of a position is not closed."""

    OPEN_ORDERS = "OPEN_ORDERS"  # orders on the other side may still take it
    UNDER_A_LOT = "UNDER_A_LOT"
    NOT_LISTED = "NOT_LISTED"  # not among today's instruments: it has expired, perhaps
    TOO_MANY = "TOO_MANY"  # more orders than one request makes: close the rest with another one
    OTHERS = "OTHERS"  # the account as a whole doesn't hold it: other strategies stand against it


@dataclass(frozen=True, slots=True)
class Left:
    """A part of a position that stays. `quantity` is signed as the position is."""

    account_id: str
    instrument: str
    product: Product
    quantity: int
    why: Why


@dataclass(frozen=True, slots=True)
class Closing:
    """One order that closes something."""

    account_id: str
    instrument: Instrument
    product: Product
    side: Side
    quantity: int
    price: Decimal | None


_Place = tuple[str, str, Product]  # account, instrument, product


def closings(
    traded: Iterable[Traded],
    under_way: Sequence[UnderWay],
    brokers: Mapping[str, str],
    instruments: Mapping[str, Instrument],
    wanted: SquareOff,
    settings: Settings,
) -> tuple[list[Closing], list[Left]]:
    """The orders that close what is wanted, and what of it stays; in the order of accounts and instruments.

    Args:
        brokers: of the accounts that are meant, by account.
    """
    made: list[Closing] = []
    left: list[Left] = []
    nets = _nets(traded, under_way)
    for place in sorted(nets):
        account_id, key, product = place
        if account_id not in brokers or not _is_wanted(key, product, wanted.filter):
            continue
        quantity, covered, others = _closable(place, nets[place], under_way, brokers[account_id], wanted.filter.strategy)
        sign = 1 if quantity + covered + others > 0 else -1
        kept = [(covered, Why.OPEN_ORDERS), (others, Why.OTHERS)]
        instrument = instruments.get(key)
        if instrument is None:
            kept.append((quantity, Why.NOT_LISTED))
        else:
            whole = abs(quantity) // instrument.lot_size * instrument.lot_size
            kept.append((sign * (abs(quantity) - whole), Why.UNDER_A_LOT))
            side = Side.SELL if sign > 0 else Side.BUY
            price = limit_price(instrument, side, wanted.distance_percent)
            for part in _parts(whole, instrument, side, wanted, settings):
                if len(made) == LINES_MAX:
                    break
                made.append(Closing(account_id, instrument, product, side, part, price))
                whole -= part
            kept.append((sign * whole, Why.TOO_MANY))
        left += [Left(account_id, key, product, amount, why) for amount, why in kept if amount]
    return made, left


def limit_price(instrument: Instrument, side: Side, distance_percent: Decimal | None) -> Decimal | None:
    """So far beyond the reference price, on a tick, inside the band; None for an order at market."""
    if distance_percent is None:
        return None
    sign, rounding = (1, ROUND_CEILING) if side is Side.BUY else (-1, ROUND_FLOOR)
    price = instrument.close * (HUNDRED + sign * distance_percent) / HUNDRED
    ticks = (price / instrument.tick).to_integral_value(rounding)
    band = band_of(instrument, instrument.close)
    if band is not None:
        ticks = min(ticks, (band.high / instrument.tick).to_integral_value(ROUND_FLOOR))
        ticks = max(ticks, (band.low / instrument.tick).to_integral_value(ROUND_CEILING))
    return max(ticks, Decimal(1)) * instrument.tick


def _nets(traded: Iterable[Traded], under_way: Iterable[UnderWay]) -> dict[_Place, dict[str | None, int]]:
    """By position, what each strategy has made of it; fills without their trades are counted as well."""
    nets: dict[_Place, dict[str | None, int]] = defaultdict(lambda: defaultdict(int))
    for one in traded:
        nets[one.account_id, one.instrument, one.product][one.strategy] += one.net
    for order in under_way:
        if order.account_id is not None and order.untold:
            nets[order.account_id, order.instrument, order.product][order.strategy] += order.sign * order.untold
    return nets


def _is_wanted(key: str, product: Product, wanted: PositionFilter) -> bool:
    if wanted.instrument is not None and key != wanted.instrument:
        return False
    return product in POSITIONS if wanted.product is None else product is wanted.product


def _closable(
    place: _Place, nets: Mapping[str | None, int], under_way: Sequence[UnderWay], broker: str, strategy: str | None
) -> tuple[int, int, int]:
    """Of a position, or one strategy's part of it: what to close, what open orders may take, what others stand against.

    All three have the position's sign.
    """
    total = sum(nets.values())
    mine = nets.get(strategy, 0) if strategy is not None else total
    sign = 1 if mine > 0 else -1
    if not mine or (place[2] in OWNED and mine < 0):
        return 0, 0, 0
    free_of_all = max(0, sign * total - _against(place, sign, under_way, broker))
    pending = _against(place, sign, under_way, broker) if strategy is None else _against(place, sign, under_way, broker, strategy)
    free = min(max(0, abs(mine) - pending), free_of_all)
    held = min(abs(mine), max(0, sign * total))
    return sign * free, sign * (held - free), sign * (abs(mine) - held)


def _against(
    place: _Place, sign: int, under_way: Iterable[UnderWay], broker: str, strategy: str | None = None
) -> int:
    """What orders against the position's sign may still take of it."""
    account_id, key, product = place
    return sum(
        order.pending
        for order in under_way
        if order.sign == -sign
        and (order.instrument, order.product) == (key, product)
        and (order.account_id == account_id or (order.account_id is None and order.broker in (None, broker)))
        and (strategy is None or order.strategy == strategy)
    )


def _parts(
    quantity: int, instrument: Instrument, side: Side, wanted: SquareOff, settings: Settings
) -> Iterator[int]:
    """The quantity in orders that no limit of size refuses."""
    lot = instrument.lot_size
    most = min(
        instrument.freeze_quantity // lot * lot * SLICES_MAX,
        *(units // lot * lot for units in _size_limits(instrument, side, wanted, settings)),
    )
    most = max(lot, most)
    while quantity > 0:
        yield min(quantity, most)
        quantity -= most


def _size_limits(instrument: Instrument, side: Side, wanted: SquareOff, settings: Settings) -> Iterator[int]:
    """The most units of one order, by each limit of `pipeline.stages.risk.order_breaches`."""
    yield min(settings.quantity_max or QUANTITY_MAX, QUANTITY_MAX)
    price = limit_price(instrument, side, wanted.distance_percent) or instrument.close
    if side is Side.BUY and wanted.order_type == "MARKET":
        protection = wanted.market_protection
        price *= (HUNDRED + protection) / HUNDRED if protection is not None and protection > 0 else MARKET_BUY
    if instrument.is_derivative and side is Side.SELL and instrument.strike is not None:
        price = instrument.strike
    most = settings.derivative_value_max_paise if instrument.is_derivative else settings.order_value_max_paise
    if most is not None and price:
        yield int(most / (price * instrument.multiplier * PAISE_PER_RUPEE))
