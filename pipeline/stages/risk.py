"""Risk: the limits of an account, and how far a price may stray; a reservation is made with the verdict."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

from domain.accounts import Totals
from domain.bands import Band, band_of
from domain.instruments import Instrument
from domain.money import Money
from domain.orders import PRICED, Order
from domain.rejections import Breach, Code, plain, rejection, shown
from domain.settings import Settings
from domain.valuation import exposure_of, price_of, value_of
from domain.verdicts import Proceed, Verdict

MILLION = 1_000_000
PPM_PER_PERCENT = Decimal(10_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class RiskLimits:
    """What one account may do. None means no limit."""

    order_value_max: Money | None = None  # of one order in shares: price times quantity
    derivative_value_max: Money | None = None  # of one order in derivatives: its notional, a bought option's premium
    quantity_max: int | None = None  # units of one order
    open_orders_max: int | None = None  # not yet ended, this one included
    orders_per_s_max: int | None = None  # in one calendar second
    exposure_max: Money | None = None  # of all open orders together
    modify_quantity_delta_max_ppm: int | None = None  # how far a modify moves a quantity, of what it is
    modify_price_delta_max_ppm: int | None = None  # or a price or trigger price
    price_deviation_ppm: int | None = None  # of a limit price on its dear side, from the reference price
    restricted: frozenset[str] = frozenset()  # instruments, by key

    @classmethod
    def of(cls, settings: Settings) -> RiskLimits:
        return cls(
            order_value_max=_money(settings.order_value_max_paise),
            derivative_value_max=_money(settings.derivative_value_max_paise),
            quantity_max=settings.quantity_max,
            open_orders_max=settings.open_orders_max,
            orders_per_s_max=settings.orders_per_s_max,
            exposure_max=_money(settings.exposure_max_paise),
            modify_quantity_delta_max_ppm=settings.modify_quantity_delta_max_ppm,
            modify_price_delta_max_ppm=settings.modify_price_delta_max_ppm,
            price_deviation_ppm=settings.price_deviation_ppm,
            restricted=frozenset(settings.restricted),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a batch is judged by. `totals` change with every order that proceeds, so that the next one sees it."""

    instruments: Mapping[str, Instrument]
    totals: Mapping[str, Totals]  # by account, read under its lock
    limits: RiskLimits
    now: datetime
    own_limits: Mapping[str, RiskLimits] = field(default_factory=dict)  # of accounts that have their own
    references: Mapping[str, Decimal] = field(default_factory=dict)  # newer prices than the instruments' closes


def decide(order: Order, facts: Facts) -> Verdict:
    """Reject an order that would take its account past a limit, naming every limit; else reserve what it takes."""
    instrument, totals = facts.instruments[order.instrument], facts.totals[order.account_id or ""]
    limits = facts.own_limits.get(totals.account_id, facts.limits)
    reference = facts.references.get(instrument.key, instrument.close)
    value = value_of(price_of(order, reference), order.quantity, instrument)
    exposure = exposure_of(order, instrument, value)
    second = int(facts.now.timestamp())
    this_second = totals.orders_this_second if totals.second == second else 0
    band = band_of(instrument, reference)
    breaches = [
        *order_breaches(order, instrument, value, exposure, limits),
        *account_breaches(totals, exposure, this_second, limits),
        *price_breaches(order, band, reference, limits),
    ]
    if breaches:
        return rejection(breaches)
    order.exposure_paise = exposure.paise
    totals.exposure_paise += exposure.paise
    totals.open_orders += 1
    totals.second, totals.orders_this_second = second, this_second + 1
    return Proceed(
        {
            "value_paise": value.paise,
            "exposure_paise": exposure.paise,
            "account_exposure_paise": totals.exposure_paise,
            "open_orders": totals.open_orders,
            "orders_this_second": totals.orders_this_second,
            "reference": reference,
            "band": None if band is None else (band.low, band.high),
        }
    )


def undo(order: Order, totals: Totals) -> None:
    """Give back what `decide` reserved, where a later stage of the same batch refuses the order."""
    totals.exposure_paise -= order.exposure_paise
    totals.open_orders -= 1
    totals.orders_this_second -= 1
    order.exposure_paise = 0


def order_breaches(
    order: Order, instrument: Instrument, value: Money, exposure: Money, limits: RiskLimits
) -> Iterator[Breach]:
    if instrument.key in limits.restricted:
        yield Breach(Code.RESTRICTED, f"{instrument.key} is on the list of instruments not to be traded here")
    if instrument.is_derivative:
        most, words, counted = limits.derivative_value_max, "notional value", exposure
    else:
        most, words, counted = limits.order_value_max, "order value", value
    if most is not None and counted.paise > most.paise:
        yield Breach(Code.RISK_LIMIT, f"{words} {counted} is over {most}")
    if limits.quantity_max is not None and order.quantity > limits.quantity_max:
        yield Breach(Code.RISK_LIMIT, f"quantity {order.quantity} is over {limits.quantity_max}")


def account_breaches(totals: Totals, exposure: Money, this_second: int, limits: RiskLimits) -> Iterator[Breach]:
    if limits.open_orders_max is not None and totals.open_orders >= limits.open_orders_max:
        yield Breach(Code.RISK_LIMIT, f"{totals.open_orders} orders are open already, the limit")
    if limits.orders_per_s_max is not None and this_second >= limits.orders_per_s_max:
        yield Breach(
            Code.RISK_LIMIT, f"{this_second} orders came in this second already, the limit: send it again later"
        )
    yield from exposure_breaches(totals, exposure, limits)


def exposure_breaches(totals: Totals, exposure: Money, limits: RiskLimits) -> Iterator[Breach]:
    """Where so much more would be over the limit of all open orders together."""
    if limits.exposure_max is not None:
        together = totals.exposure_paise + exposure.paise
        if together > limits.exposure_max.paise:
            yield Breach(
                Code.RISK_LIMIT,
                f"exposure would be {Money(together)}, {exposure} of it by this order, and is over {limits.exposure_max}",
            )


def price_breaches(order: Order, band: Band | None, reference: Decimal, limits: RiskLimits) -> Iterator[Breach]:
    """Of the price an order may trade at: its limit, and of a stop also its trigger."""
    if band is not None:
        for name, price in (("price", order.price), ("trigger price", order.trigger_price)):
            if price is not None and not band.low <= price <= band.high:
                yield Breach(
                    Code.PRICE_BAND,
                    f"{name} {shown(price)} is outside {shown(band.low)} to {shown(band.high)}"
                    f" ({band.rule} round {shown(reference)})",
                )
    if limits.price_deviation_ppm is None or order.order_type not in PRICED or order.price is None:
        return
    allowed = reference * limits.price_deviation_ppm / MILLION
    if (order.price - reference if order.is_buy else reference - order.price) > allowed:
        percent = plain(limits.price_deviation_ppm / PPM_PER_PERCENT)
        worse = "over" if order.is_buy else "under"
        yield Breach(
            Code.PRICE_DEVIATION,
            f"price {shown(order.price)} is more than {percent} % {worse} the reference price {shown(reference)}",
        )


def _money(paise: int | None) -> Money | None:
    return None if paise is None else Money(paise)
