"""What an order is worth before it trades: the price it is judged at, its value, and its exposure."""

from __future__ import annotations

from decimal import Decimal

from domain.instruments import Instrument
from domain.money import PAISE_PER_RUPEE, Money
from domain.orders import PRICED, Order, OrderType, Product

HALF = Decimal("0.5")
MARKET_BUY = Decimal("1.01")  # a market order to buy may cost a hundredth more than the reference
HUNDRED = Decimal(100)


def price_of(order: Order, reference: Decimal) -> Decimal:
    """The price in rupees to judge an order at: its limit; without one its trigger, or the reference price.

    A purchase without a limit counts for more: by its market protection, or else a hundredth.
    """
    if order.order_type in PRICED and order.price is not None:
        return order.price
    price = order.trigger_price if order.order_type is OrderType.SL_M and order.trigger_price else reference
    if not order.is_buy:
        return price
    if order.market_protection is not None and order.market_protection > 0:
        return price * (HUNDRED + order.market_protection) / HUNDRED
    return price * MARKET_BUY


def value_of(price: Decimal, quantity: int, instrument: Instrument) -> Money:
    """Rounded half up to the paisa, as `money.value_of` does, and quicker: no price is negative."""
    return Money(int(price * (quantity * instrument.multiplier * PAISE_PER_RUPEE) + HALF))


def exposure_of(order: Order, instrument: Instrument, value: Money) -> Money:
    """What the order puts at risk: its value; for a sold option that of what it is an option on, at its strike.

    A sale of delivered shares puts nothing at risk: they are owned.
    """
    if order.is_buy:
        return value
    if instrument.strike is not None:
        return value_of(instrument.strike, order.quantity, instrument)
    if order.product in (Product.CNC, Product.MTF):
        return Money(0)
    return value
