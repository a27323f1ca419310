"""Modify: whether an order may have new terms, judged as a new order with them would be, but for what it has already.

What a modify makes smaller passes limits that were lowered since; what it makes larger has to fit into them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from decimal import Decimal

from domain.bands import band_of
from domain.instruments import Instrument
from domain.market import SIM, phase_for
from domain.money import Money
from domain.orders import PRICED, Order, Product
from domain.rejections import Breach, Code, plain, rejection, shown
from domain.rules import find_breaches
from domain.valuation import exposure_of, price_of, value_of
from domain.verdicts import Proceed, Reject
from pipeline.stages import margin, risk, validate

MILLION = 1_000_000
PPM_PER_PERCENT = Decimal(10_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a batch is judged by: what each stage is given of it. `totals` of risk and margin are the same ones."""

    validate: validate.Facts
    risk: risk.Facts
    margin: margin.Facts


@dataclass(frozen=True, slots=True)
class Holding:
    """What an order holds of its account, in paise."""

    blocked: int
    exposure: int

    def most(self, other: Holding) -> Holding:
        return Holding(max(self.blocked, other.blocked), max(self.exposure, other.exposure))


def decide(order: Order, target: Order, facts: Facts) -> tuple[Proceed | Reject, Holding]:
    """Reject new terms that break a rule or pass a limit, naming every one of a stage; else what the order holds with them.

    `target` is the order with the new terms. What its account's totals lack for it is taken of them with the verdict:
    until the broker's book shows which terms count, the order holds the larger of both.
    """
    held = Holding(order.blocked_paise, order.exposure_paise)
    instrument = facts.validate.instruments.get(order.instrument)
    if instrument is None:
        return Reject(Code.UNKNOWN_INSTRUMENT.value, (f"{order.instrument} is not among today's instruments",)), held
    if target.order_type in PRICED:
        target = replace(target, market_protection=None)
    breaches = list(_rule_breaches(order, target, instrument, facts.validate))
    if not breaches:
        breaches = list(_limit_breaches(order, target, instrument, facts.risk))
    if breaches:
        return rejection(breaches), held
    needs = holding(target, instrument, facts)
    totals = facts.margin.totals[order.account_id or ""]
    more = needs.blocked - held.blocked
    available = totals.limit_paise - totals.blocked_paise
    if more > 0 and more > available:
        reason = (
            f"margin of {Money(needs.blocked)} is needed, {Money(more)} more than it holds, {Money(available)} is left"
            f" of {Money(totals.limit_paise)}: open orders hold {Money(totals.blocked_paise)}"
        )
        return Reject(Code.MARGIN_ESTIMATE.value, (reason,)), held
    totals.blocked_paise += max(0, more)
    totals.exposure_paise += max(0, needs.exposure - held.exposure)
    told = {
        "required_paise": needs.blocked,
        "exposure_paise": needs.exposure,
        "held_paise": held.blocked,
        "available_paise": available,
    }
    return Proceed(told), needs


def holding(order: Order, instrument: Instrument, facts: Facts) -> Holding:
    """What an order with these terms holds."""
    reference = facts.risk.references.get(instrument.key, instrument.close)
    value = value_of(price_of(order, reference), order.quantity, instrument)
    needed, _ = margin.estimate_of(order, facts.margin)
    return Holding(needed.required.paise, exposure_of(order, instrument, value).paise)


def _rule_breaches(order: Order, target: Order, instrument: Instrument, facts: validate.Facts) -> Iterator[Breach]:
    calendar = facts.calendars.get(order.account_id, instrument.exchange)
    phase = phase_for(instrument, calendar, facts.now)
    yield from validate.expiry_breaches(instrument, facts.now)
    yield from validate.broker_breaches(target, instrument, facts.capabilities.get(order.broker or ""))
    yield from find_breaches(target, instrument)
    most = instrument.freeze_quantity // instrument.lot_size * instrument.lot_size
    if target.quantity > instrument.freeze_quantity and target.quantity > order.quantity:
        yield Breach(
            Code.FREEZE_QUANTITY,
            f"quantity {target.quantity} is over {most}, the most of one order (the exchange's freeze quantity is"
            f" {instrument.freeze_quantity}): place another order for the rest",
        )
    yield from validate.phase_breaches(target, instrument, phase, facts.now)
    grows = target.quantity > order.quantity
    if grows and calendar != SIM and order.product is Product.MIS and phase.takes_orders:
        yield from validate.cutoff_breaches(instrument, facts)


def _limit_breaches(order: Order, target: Order, instrument: Instrument, facts: risk.Facts) -> Iterator[Breach]:
    totals = facts.totals[order.account_id or ""]
    limits = facts.own_limits.get(totals.account_id, facts.limits)
    reference = facts.references.get(instrument.key, instrument.close)
    value = value_of(price_of(target, reference), target.quantity, instrument)
    exposure = exposure_of(target, instrument, value)
    if target.quantity > order.quantity or value > value_of(price_of(order, reference), order.quantity, instrument):
        yield from risk.order_breaches(target, instrument, value, exposure, limits)
    more = exposure.paise - order.exposure_paise
    if more > 0:
        yield from risk.exposure_breaches(totals, Money(more), limits)
    yield from risk.price_breaches(target, band_of(instrument, reference), reference, limits)
    yield from delta_breaches(order, target, limits)


def delta_breaches(order: Order, target: Order, limits: risk.RiskLimits) -> Iterator[Breach]:
    """How far quantity and prices move at once, in parts of what they are."""
    most = limits.modify_quantity_delta_max_ppm
    if most is not None and abs(target.quantity - order.quantity) * MILLION > most * order.quantity:
        yield Breach(
            Code.MODIFY_QUANTITY_DELTA,
            f"quantity {target.quantity} is more than {_percent(most)} % from the {order.quantity} it is for",
        )
    most = limits.modify_price_delta_max_ppm
    if most is None:
        return
    prices = (
        ("price", order.price, target.price),
        ("trigger price", order.trigger_price, target.trigger_price),
    )
    for name, old, new in prices:
        if old is not None and new is not None and abs(new - old) * MILLION > most * old:
            yield Breach(
                Code.MODIFY_PRICE_DELTA, f"{name} {shown(new)} is more than {_percent(most)} % from {shown(old)}, its {name}"
            )


def _percent(ppm: int) -> str:
    return plain(ppm / PPM_PER_PERCENT)
