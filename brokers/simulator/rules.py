"""Why the broker's risk desk or the exchange refuses an order, in the order in which they look."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from brokers.simulator.accounts import Account, margin_of
from brokers.simulator.book import Ask, Terms
from brokers.simulator.prices import is_on_tick
from brokers.simulator.settings import Settings
from domain.instruments import Instrument
from domain.orders import OrderType, Product, Side

_TRADE_TO_TRADE = frozenset({"BE", "BZ", "T", "TS", "ST"})


@dataclass(frozen=True, slots=True)
class Refusal:
    code: str  # LOT, FREEZE, TICK, BAND, TRIGGER, PRODUCT, EXPIRED, HOLDINGS, FUNDS
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Market:
    """What the rules need to know of the instrument's day."""

    today: date
    last: Decimal
    low: Decimal
    high: Decimal


def find_refusal(ask: Ask, account: Account, market: Market, settings: Settings) -> Refusal | None:
    """The first reason to refuse a new order, or None."""
    found = next(find_faults(ask, ask.terms, market), None)
    if found is not None:
        return found
    return next(find_shortfalls(ask, account, market, settings), None)


def find_faults(ask: Ask, terms: Terms, market: Market) -> Iterator[Refusal]:
    """What the instrument's own rules forbid, for a new order as for changed terms."""
    instrument = ask.instrument
    if instrument.expiry is not None and instrument.expiry < market.today:
        yield Refusal("EXPIRED", f"{instrument.symbol} expired on {instrument.expiry.isoformat()}")
    wrong_product = _product_fault(instrument, ask.product)
    if wrong_product:
        yield Refusal("PRODUCT", wrong_product)
    if terms.quantity % instrument.lot_size:
        yield Refusal("LOT", f"Quantity should be a multiple of the lot size {instrument.lot_size}")
    if terms.quantity > instrument.freeze_quantity:
        yield Refusal(
            "FREEZE", f"17070 : The quantity {terms.quantity} is over the freeze quantity {instrument.freeze_quantity}"
        )
    for name, price in (("price", terms.limit), ("trigger price", terms.trigger if terms.is_stop else None)):
        if price is None:
            continue
        if not is_on_tick(price, instrument.tick):
            yield Refusal("TICK", f"16283 : The order {name} is not a multiple of the tick size {instrument.tick}")
        if not market.low <= price <= market.high:
            yield Refusal(
                "BAND", f"16285 : The order {name} {price} is out of the day's range {market.low}-{market.high}"
            )
    yield from _stop_faults(ask.side, instrument, terms, market)


def find_shortfalls(ask: Ask, account: Account, market: Market, settings: Settings) -> Iterator[Refusal]:
    """What the account lacks for it."""
    instrument, terms = ask.instrument, ask.terms
    sells_delivery = ask.side is Side.SELL and ask.product in (Product.CNC, Product.MTF)
    if settings.check_holdings and sells_delivery:
        deliverable = account.deliverable(instrument.key)
        if terms.quantity > deliverable:
            yield Refusal(
                "HOLDINGS", f"RMS: no holdings present: {instrument.symbol} has {deliverable}, wanted {terms.quantity}"
            )
    if settings.check_funds:
        needed = margin_of(instrument, ask.product, ask.side, terms.quantity, terms.limit or market.last)
        if needed > account.available and not _closes(ask, account):
            yield Refusal(
                "FUNDS",
                "Insufficient funds. Required margin is "
                f"{needed.rupees} but available margin is {account.available.rupees}.",
            )


def _closes(ask: Ask, account: Account) -> bool:
    position = account.positions.get((ask.instrument.key, ask.product))
    if position is None:
        return False
    signed = ask.terms.quantity if ask.side is Side.BUY else -ask.terms.quantity
    return position.net * signed < 0 and abs(signed) <= abs(position.net)


def _product_fault(instrument: Instrument, product: Product) -> str | None:
    if instrument.is_derivative:
        if product in (Product.CNC, Product.MTF):
            return f"Product {product} is not allowed for derivatives"
    elif product is Product.NRML:
        return "Product NRML is not allowed for equity"
    elif product is not Product.CNC and instrument.series in _TRADE_TO_TRADE:
        return f"Trade to trade: product {product} is not allowed in series {instrument.series}"
    return None


def _stop_faults(side: Side, instrument: Instrument, terms: Terms, market: Market) -> Iterator[Refusal]:
    if not terms.is_stop:
        return
    if terms.order_type is OrderType.SL_M and instrument.is_option:
        yield Refusal("TRIGGER", "SL-M orders are not allowed for options")
    if terms.trigger <= 0:
        yield Refusal("TRIGGER", "Trigger price is missing")
    elif side is Side.BUY:
        if terms.trigger <= market.last:
            yield Refusal(
                "TRIGGER", f"Trigger price of a buy should be higher than the last traded price {market.last}"
            )
        if terms.limit is not None and terms.limit < terms.trigger:
            yield Refusal("TRIGGER", "Trigger price of a buy should not be higher than its limit price")
    else:
        if terms.trigger >= market.last:
            yield Refusal(
                "TRIGGER", f"Trigger price of a sell should be lower than the last traded price {market.last}"
            )
        if terms.limit is not None and terms.limit > terms.trigger:
            yield Refusal("TRIGGER", "Trigger price of a sell should not be lower than its limit price")
