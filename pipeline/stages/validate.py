"""Validate: what can be said of an order from the day's instruments, the broker's abilities and the clock alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, time
from types import MappingProxyType

from domain.capabilities import Capabilities
from domain.instruments import Instrument, Segment
from domain.market import IST, SIM, Phase, PhaseName, next_open, phase_for
from domain.orders import Order, Product, Validity
from domain.rejections import Breach, Code, clock, rejection
from domain.rules import find_breaches
from domain.verdicts import Proceed, Reject, Verdict

# From then on brokers take no new intraday positions; theirs to choose, and all under the close (IST). The cash one
# lies before the closing auction's reference window, which begins at 15:15.
MIS_CUTOFFS: Mapping[Segment, time] = MappingProxyType(
    {
        Segment.CASH: time(15, 0),
        Segment.EQUITY_DERIVATIVES: time(15, 25),
        Segment.CURRENCY: time(16, 45),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a batch is judged by."""

    instruments: Mapping[str, Instrument]  # by what orders call them: keys, and aliases already resolved
    now: datetime
    calendars: Mapping[str | None, str]  # by account: SIM, or any other for the instrument's own exchange
    capabilities: Mapping[str, Capabilities]  # by broker
    mis_cutoffs: Mapping[Segment, time] = field(default_factory=lambda: MIS_CUTOFFS)


def decide(order: Order, facts: Facts) -> Verdict:
    """Reject an order that breaks a rule of its exchange, its broker or the hour, naming every one."""
    instrument = facts.instruments.get(order.instrument)
    if instrument is None:
        return Reject(Code.UNKNOWN_INSTRUMENT.value, (f"{order.instrument} is not among today's instruments",))
    calendar = facts.calendars.get(order.account_id, instrument.exchange)
    phase = phase_for(instrument, calendar, facts.now)
    breaches = [
        *expiry_breaches(instrument, facts.now),
        *broker_breaches(order, instrument, facts.capabilities.get(order.broker or "")),
        *find_breaches(order, instrument),
        *phase_breaches(order, instrument, phase, facts.now),
    ]
    if calendar != SIM and order.product is Product.MIS and phase.takes_orders:
        breaches.extend(cutoff_breaches(instrument, facts))
    if breaches:
        return rejection(breaches)
    return Proceed(
        {
            "instrument": instrument.key,
            "tick": instrument.tick,
            "lot": instrument.lot_size,
            "freeze_quantity": instrument.freeze_quantity,
            "calendar": calendar,
            "phase": phase.name,
        }
    )


def expiry_breaches(instrument: Instrument, now: datetime) -> Iterator[Breach]:
    if instrument.expiry is not None and instrument.expiry < now.astimezone(IST).date():
        yield Breach(Code.INSTRUMENT_EXPIRED, f"{instrument.key} expired on {instrument.expiry.isoformat()}")


def broker_breaches(order: Order, instrument: Instrument, able: Capabilities | None) -> Iterator[Breach]:
    if able is None:
        return
    if instrument.exchange not in able.exchanges:
        yield Breach(
            Code.EXCHANGE_NOT_OFFERED,
            f"{able.broker} has no {instrument.exchange}: it trades {', '.join(sorted(able.exchanges))}",
        )
    if order.product not in able.products:
        yield Breach(
            Code.PRODUCT_NOT_ALLOWED,
            f"{able.broker} has no {order.product}: it takes {', '.join(sorted(able.products))}",
        )
    if order.order_type not in able.order_types:
        yield Breach(
            Code.ORDER_TYPE_NOT_ALLOWED,
            f"{able.broker} has no {order.order_type}: it takes {', '.join(sorted(able.order_types))}",
        )
    if order.validity not in able.validities:
        yield Breach(
            Code.VALIDITY_NOT_ALLOWED,
            f"{able.broker} has no {order.validity}: it takes {', '.join(sorted(able.validities))}",
        )


def phase_breaches(order: Order, instrument: Instrument, phase: Phase, now: datetime) -> Iterator[Breach]:
    if not phase.takes_orders:
        opens = next_open(
            instrument.exchange,
            now,
            has_derivatives=instrument.band_percent is None,
            is_future=not instrument.is_option,
        )
        yield Breach(
            Code.MARKET_CLOSED,
            f"{instrument.exchange} takes no orders on {clock(now)} ({_called(phase)}): it opens {clock(opens)}",
        )
        return
    if order.order_type not in phase.order_types:
        yield Breach(
            Code.MARKET_PHASE,
            f"{order.order_type} is not taken in the {_called(phase)} ({phase.window}):"
            f" {', '.join(sorted(phase.order_types))} only",
        )
    if order.validity is Validity.IOC and not phase.ioc:
        yield Breach(Code.MARKET_PHASE, f"IOC is not taken in the {_called(phase)} ({phase.window}): use DAY")
    if order.disclosed_quantity and not phase.disclosed and not instrument.is_derivative:
        yield Breach(
            Code.MARKET_PHASE, f"no disclosed quantity is taken in the {_called(phase)} ({phase.window}): leave it out"
        )


def cutoff_breaches(instrument: Instrument, facts: Facts) -> Iterator[Breach]:
    cutoff, at = facts.mis_cutoffs.get(instrument.segment), facts.now.astimezone(IST).time()
    if cutoff is not None and at >= cutoff:
        product = "NRML" if instrument.is_derivative else "CNC"
        yield Breach(
            Code.MIS_CUTOFF,
            f"it is {at:%H:%M} IST: no new MIS after {cutoff:%H:%M}, since brokers square off then; use {product}",
        )


_CALLED = {
    PhaseName.CLOSED: "closed",
    PhaseName.PRE_OPEN: "pre-open",
    PhaseName.PRE_OPEN_LIMIT: "pre-open's second part",
    PhaseName.PRE_OPEN_MATCHING: "pre-open's matching",
    PhaseName.CONTINUOUS: "continuous trading",
    PhaseName.CAS_REFERENCE: "closing auction's reference window",
    PhaseName.CAS: "closing auction",
    PhaseName.CAS_LIMIT: "closing auction's second part",
    PhaseName.CAS_MATCHING: "closing auction's matching",
    PhaseName.POST_CLOSE: "post-close",
}


def _called(phase: Phase) -> str:
    return _CALLED[phase.name]
