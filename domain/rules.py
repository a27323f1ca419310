"""What the exchanges ask of an order, whoever carries it: each rule that it breaks, with its number and the limit."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

from domain.bands import stop_limit_gap
from domain.instruments import Instrument
from domain.orders import PRICED, TRIGGERED, Order, OrderType, Product
from domain.rejections import Breach, Code, plain, shown

# Series whose every trade is settled by itself, so that nothing can be netted within the day. Z and XT are taken with
# them though sources differ.
TRADE_TO_TRADE = {"NSE": frozenset({"BE", "BZ", "ST", "SZ"}), "BSE": frozenset({"T", "TS", "ST", "XT", "Z", "ZP"})}
DERIVATIVE_PRODUCTS = frozenset({Product.NRML, Product.MIS})
CASH_PRODUCTS = frozenset({Product.CNC, Product.MIS, Product.MTF})
UNPROTECTED = frozenset({OrderType.MARKET, OrderType.SL_M})  # which the exchange takes with market protection only
PROTECTION_MAX = Decimal(25)  # percent
PROTECTION_AUTOMATIC = Decimal(-1)  # as brokers write it: their own choice
SLICES_MAX = 10  # what brokers' own slicing takes since 2026-04, under ten orders a second
DISCLOSED_SHARE = 10  # at least one tenth of the quantity is shown


def find_breaches(order: Order, instrument: Instrument) -> Iterator[Breach]:
    yield from product_breaches(order, instrument)
    yield from type_breaches(order, instrument)
    yield from price_breaches(order, instrument)
    yield from quantity_breaches(order, instrument)


def product_breaches(order: Order, instrument: Instrument) -> Iterator[Breach]:
    allowed = DERIVATIVE_PRODUCTS if instrument.is_derivative else CASH_PRODUCTS
    if order.product not in allowed:
        what = "a derivative" if instrument.is_derivative else "a share"
        yield Breach(
            Code.PRODUCT_NOT_ALLOWED,
            f"{order.product} is not for {what} such as {instrument.key}: use {' or '.join(sorted(allowed))}",
        )
    elif order.product is not Product.CNC and instrument.series in TRADE_TO_TRADE.get(instrument.exchange, ()):
        yield Breach(
            Code.PRODUCT_NOT_ALLOWED,
            f"{instrument.key} is in series {instrument.series}, where each trade settles by itself:"
            f" {order.product} is not possible, use CNC",
        )


def type_breaches(order: Order, instrument: Instrument) -> Iterator[Breach]:
    if order.order_type is OrderType.SL_M and instrument.is_option:
        yield Breach(
            Code.ORDER_TYPE_NOT_ALLOWED,
            "exchanges take no SL-M for options (since 2021-09): use SL with a limit price",
        )
    protection = order.market_protection
    if protection is None:
        return
    if order.order_type not in UNPROTECTED:
        yield Breach(
            Code.MARKET_PROTECTION,
            f"market protection is for MARKET and SL-M: a {order.order_type} has its limit price",
        )
    elif protection != PROTECTION_AUTOMATIC and not 0 < protection <= PROTECTION_MAX:
        yield Breach(
            Code.MARKET_PROTECTION,
            f"market protection {plain(protection)} % is not above 0 and up to {plain(PROTECTION_MAX)} %;"
            " without one, or with -1, the broker sets its own",
        )


def price_breaches(order: Order, instrument: Instrument) -> Iterator[Breach]:
    kind, price, trigger = order.order_type, order.price, order.trigger_price
    if (price is None) is (kind in PRICED):
        yield Breach(Code.PRICE_TERMS, f"{kind} orders {'need a' if price is None else 'have no'} price")
    if (trigger is None) is (kind in TRIGGERED):
        yield Breach(Code.PRICE_TERMS, f"{kind} orders {'need a' if trigger is None else 'have no'} trigger price")
    if price is not None and price % instrument.tick:
        yield _off_tick("price", price, instrument.tick)
    if trigger is not None:
        if trigger % instrument.tick:
            yield _off_tick("trigger price", trigger, instrument.tick)
        if price is not None and kind in TRIGGERED:
            yield from _stop_breaches(order, instrument, price, trigger)


def quantity_breaches(order: Order, instrument: Instrument) -> Iterator[Breach]:
    quantity, lot = order.quantity, instrument.lot_size
    if quantity <= 0 or quantity % lot:
        yield Breach(Code.LOT_SIZE, f"quantity {quantity} is not a multiple of the lot of {lot}{_near(quantity, lot)}")
    most = instrument.freeze_quantity // lot * lot
    if quantity > SLICES_MAX * most:
        yield Breach(
            Code.FREEZE_QUANTITY,
            f"quantity {quantity} is over {SLICES_MAX * most}: one order is cut into at most {SLICES_MAX} slices"
            f" of {most} (the exchange's freeze quantity is {instrument.freeze_quantity});"
            f" send {-(-quantity // (SLICES_MAX * most))} orders",
        )
    disclosed = order.disclosed_quantity
    if not disclosed:
        return
    if instrument.is_derivative:
        yield Breach(Code.DISCLOSED_QUANTITY, f"disclosed quantity {disclosed}: derivatives are always shown in full")
    elif disclosed >= quantity:
        yield Breach(Code.DISCLOSED_QUANTITY, f"disclosed quantity {disclosed} is not below the quantity of {quantity}")
    elif disclosed * DISCLOSED_SHARE < quantity:
        yield Breach(
            Code.DISCLOSED_QUANTITY,
            f"disclosed quantity {disclosed} is under {-(-quantity // DISCLOSED_SHARE)}, a tenth of {quantity}",
        )


def _stop_breaches(order: Order, instrument: Instrument, price: Decimal, trigger: Decimal) -> Iterator[Breach]:
    if order.is_buy and price < trigger:
        yield Breach(
            Code.TRIGGER_RELATION, f"price {shown(price)} is under the trigger {shown(trigger)}: a buy stop needs more"
        )
    elif not order.is_buy and price > trigger:
        yield Breach(
            Code.TRIGGER_RELATION, f"price {shown(price)} is over the trigger {shown(trigger)}: a sell stop needs less"
        )
    most = stop_limit_gap(instrument, trigger)
    if most is not None and abs(price - trigger) > most:
        yield Breach(
            Code.STOP_LIMIT_GAP,
            f"price {shown(price)} is {shown(abs(price - trigger))} from the trigger {shown(trigger)},"
            f" the exchange allows {shown(most)}",
        )


def _off_tick(name: str, price: Decimal, tick: Decimal) -> Breach:
    below = price // tick * tick
    near = f"{shown(below)} or {shown(below + tick)}" if below else shown(tick)
    return Breach(Code.TICK_SIZE, f"{name} {shown(price)} is not a multiple of the tick of {shown(tick)}: {near} is")


def _near(quantity: int, lot: int) -> str:
    below = quantity // lot * lot
    return f": {below} or {below + lot} is" if below > 0 else f": {lot} is the least"
