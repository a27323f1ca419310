"""What a trade costs: flat brokerage and the common rates, enough to be plausible; no contract note."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from domain.instruments import Instrument
from domain.money import ZERO, Money, value_of
from domain.orders import Product, Side

_BROKERAGE = Money(2_000)  # ₹20 an order
_GST_PERCENT = 18
_MILLION = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Charges:
    turnover: Money
    brokerage: Money
    stt: Money
    exchange: Money
    sebi: Money
    stamp: Money

    @property
    def gst(self) -> Money:
        return Money((self.brokerage.paise + self.exchange.paise + self.sebi.paise) * _GST_PERCENT // 100)

    @property
    def total(self) -> Money:
        return self.brokerage + self.stt + self.exchange + self.sebi + self.stamp + self.gst


def charges_of(instrument: Instrument, product: Product, side: Side, quantity: int, price: Decimal) -> Charges:
    turnover = value_of(price, quantity, instrument.multiplier)
    buys = side is Side.BUY
    delivers = product in (Product.CNC, Product.MTF)
    if instrument.is_option:
        stt, exchange, stamp = (0 if buys else 1000), 350, 30
    elif instrument.is_derivative:
        stt, exchange, stamp = (0 if buys else 200), 17, 20
    else:
        stt, exchange, stamp = (1000 if delivers else 0 if buys else 250), 30, (150 if delivers else 30)
    return Charges(
        turnover=turnover,
        brokerage=ZERO if delivers else min(_BROKERAGE, _millionths(turnover, 500)),
        stt=_millionths(turnover, stt),
        exchange=_millionths(turnover, exchange),
        sebi=_millionths(turnover, 1),
        stamp=_millionths(turnover, stamp) if buys else ZERO,
    )


def _millionths(amount: Money, parts: int) -> Money:
    return Money((amount.paise * parts + _MILLION // 2) // _MILLION)
