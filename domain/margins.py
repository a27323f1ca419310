"""A local estimate of the margin an order needs: plain on purpose, since the broker's own answer always wins.

Whole value for delivery, a fifth for intraday, the premium for a bought option, and a share of the notional for futures
and sold options, in place of SPAN and exposure. Spreads get no benefit. All rates are parts per million.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from domain.instruments import Instrument, Segment
from domain.money import Money
from domain.orders import Order, Product
from domain.valuation import value_of

MILLION = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class MarginRates:
    """Parts per million of the value, or of the notional. What isn't the rule of a regulator is a cautious guess."""

    delivery: int = 1_000_000
    intraday: int = 200_000  # SEBI's floor since 2021-09-01: at most five times
    index_future: int = 130_000
    stock_future: int = 200_000
    currency: int = 35_000
    commodity: int = 330_000
    index_option: int = 130_000  # sold
    stock_option: int = 200_000  # sold
    index_option_on_expiry: int = 20_000  # on top, on its last day (since 2024-11-20)


@dataclass(frozen=True, slots=True)
class Margin:
    """What to block, its rate before the buffer, and in words what it is a share of."""

    required: Money
    rate_ppm: int
    basis: str


DEFAULT_RATES = MarginRates()
NOTHING = Margin(Money(0), 0, "delivery sale: from holdings")


def estimate(
    order: Order,
    instrument: Instrument,
    *,
    value: Money,
    charges: Money,
    underlying_price: Decimal | None,
    trade_date: date,
    rates: MarginRates = DEFAULT_RATES,
    buffer_ppm: int = 30_000,
) -> Margin:
    """The margin of one order, rounded up to the paisa.

    Args:
        value: price times quantity; for an option the premium's.
        charges: what the trade will cost; counted where the whole value is paid.
        underlying_price: rupees; only a sold option needs it, and without it its strike is taken.
        buffer_ppm: what is added, for prices move between here and the exchange.
    """
    base = value.paise
    if not instrument.is_derivative:
        if order.product is Product.MIS:
            rate, basis = rates.intraday, "intraday: a share of the value"
        elif order.is_buy:
            rate, basis = rates.delivery, "delivery: the value and the charges"
            base += charges.paise
        else:
            return NOTHING
    elif not instrument.is_option:
        rate, basis = _future_rate(instrument, rates), "future: a share of the notional"
    elif order.is_buy:
        rate, basis = MILLION, "bought option: the premium and the charges"
        base += charges.paise
    else:
        price = underlying_price or instrument.strike or Decimal(0)
        base = value_of(price, order.quantity, instrument).paise
        rate, basis = _sold_option_rate(instrument, trade_date, rates), "sold option: a share of the underlying's value"
    return Margin(Money(-(-base * rate * (MILLION + buffer_ppm) // (MILLION * MILLION))), rate, basis)


def _future_rate(instrument: Instrument, rates: MarginRates) -> int:
    match instrument.segment:
        case Segment.CURRENCY:
            return rates.currency
        case Segment.COMMODITY:
            return rates.commodity
        case _:
            return rates.index_future if instrument.is_index else rates.stock_future


def _sold_option_rate(instrument: Instrument, trade_date: date, rates: MarginRates) -> int:
    if instrument.segment is not Segment.EQUITY_DERIVATIVES:
        return _future_rate(instrument, rates)
    if not instrument.is_index:
        return rates.stock_option
    return rates.index_option + (rates.index_option_on_expiry if instrument.expiry == trade_date else 0)
