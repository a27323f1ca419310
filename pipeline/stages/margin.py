"""Margin: what an order will cost and block by our own estimate, and whether its account has that left."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal

from domain import charges, margins
from domain.accounts import Totals
from domain.charges import Charges
from domain.instruments import Instrument
from domain.margins import DEFAULT_RATES, Margin, MarginRates
from domain.money import Money
from domain.orders import Order
from domain.rejections import Code
from domain.valuation import price_of, value_of
from domain.verdicts import Proceed, Reject, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a batch is judged by. `totals` change with every order that proceeds, so that the next one sees it."""

    instruments: Mapping[str, Instrument]
    totals: Mapping[str, Totals]  # by account, read under its lock
    trade_date: date
    buffer_ppm: int = 30_000
    rates: MarginRates = DEFAULT_RATES
    references: Mapping[str, Decimal] = field(default_factory=dict)  # newer prices than the instruments' closes
    underlying_prices: Mapping[str, Decimal] = field(default_factory=dict)  # by symbol; for sold options


def estimate_of(order: Order, facts: Facts) -> tuple[Margin, Charges]:
    """What the order will block and cost by our own estimate, whatever its account has left."""
    instrument = facts.instruments[order.instrument]
    reference = facts.references.get(instrument.key, instrument.close)
    price = price_of(order, reference)
    costs = charges.estimate(
        broker=order.broker or "",
        exchange=instrument.exchange,
        segment=charges.segment_of(instrument, order.product),
        side=order.side,
        turnover=price * (order.quantity * instrument.multiplier),
        trade_date=facts.trade_date,
        group=charges.group_of(instrument),
    )
    margin = margins.estimate(
        order,
        instrument,
        value=value_of(price, order.quantity, instrument),
        charges=costs.total,
        underlying_price=facts.underlying_prices.get(instrument.underlying or ""),
        trade_date=facts.trade_date,
        rates=facts.rates,
        buffer_ppm=facts.buffer_ppm,
    )
    return margin, costs


def decide(order: Order, facts: Facts) -> Verdict:
    """Reject an order its account can't bear; else block the margin. Nothing is ever blocked that isn't there."""
    margin, costs = estimate_of(order, facts)
    totals = facts.totals[order.account_id or ""]
    required, available = margin.required.paise, totals.limit_paise - totals.blocked_paise
    if required > available:
        return Reject(
            Code.MARGIN_ESTIMATE.value,
            (
                f"margin of {margin.required} is needed ({margin.basis}), {Money(available)} is left"
                f" of {Money(totals.limit_paise)}: open orders hold {Money(totals.blocked_paise)}",
            ),
        )
    order.blocked_paise = required
    totals.blocked_paise += required
    return Proceed(
        {
            "required_paise": required,
            "available_paise": available,
            "basis": margin.basis,
            "rate_ppm": margin.rate_ppm,
            "buffer_ppm": facts.buffer_ppm,
            "charges_paise": costs.total.paise,
            "charges": costs.lines,
            "rate_card": costs.card,
            "assumed": costs.assumed,
        }
    )


def undo(order: Order, totals: Totals) -> None:
    """Give back what `decide` blocked, where a later stage of the same batch refuses the order."""
    totals.blocked_paise -= order.blocked_paise
    order.blocked_paise = 0
