"""Calls: the lines of one broker call, and the making of it. Their attempts are committed before it begins."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from brokers.base import Line
from domain.orders import Order
from domain.outcomes import NotSent, Outcome, Unknown
from pipeline.crash import crash
from pipeline.desk import Desk

if TYPE_CHECKING:
    from brokers.health import Health

log = logging.getLogger(__name__)

_T = TypeVar("_T")

PLACE = "place"  # the operation whose circuit counts here
CIRCUIT_LOOK_S = 0.5


@dataclass(frozen=True, slots=True)
class Call:
    """One broker call: lines of one intent and one account, their attempts committed."""

    id: str
    account_id: str
    orders: tuple[Order, ...]
    fences: tuple[int, ...]
    send_by: float  # on the boot clock: past it no byte may leave


def lines_of_calls(
    passed: Iterable[_T], order_of: Callable[[_T], Order], *, lines_per_call: int
) -> Iterator[tuple[str, list[_T]]]:
    """What goes together in one call, with its account: lines of one intent, as many as the broker takes, in order."""
    groups: dict[tuple[str, str], list[_T]] = {}
    for one in passed:
        order = order_of(one)
        groups.setdefault((order.intent_id, order.account_id or ""), []).append(one)
    for (_, account_id), members in groups.items():
        members.sort(key=lambda one: (order_of(one).line, order_of(one).id))
        for start in range(0, len(members), lines_per_call):
            yield account_id, members[start : start + lines_per_call]


class AnyCall(Protocol):
    """One broker call: places of several orders, or a change of one."""

    @property
    def orders(self) -> tuple[Order, ...]: ...


_C = TypeVar("_C", bound=AnyCall)


@dataclass(frozen=True, slots=True)
class Answer(Generic[_C]):
    """How a call ended: one outcome per order, in the same order."""

    call: _C
    outcomes: tuple[Outcome, ...]
    at: datetime


def make_call(desk: Desk, broker: str, call: Call, health: Health | None) -> Answer[Call]:
    """The call, at most once, within its lease. Raises nothing: what went wrong is an outcome."""
    return Answer(call, _outcomes(desk, broker, call, health), desk.now())


def _outcomes(desk: Desk, broker: str, call: Call, health: Health | None) -> tuple[Outcome, ...]:
    if time.clock_gettime(time.CLOCK_BOOTTIME) >= call.send_by:
        return tuple(NotSent("the lease was over before the call") for _ in call.orders)
    try:
        instruments = desk.instruments()
        lines = [Line(order, instruments[order.instrument]) for order in call.orders]
        session, timeout_s = desk.session(call.account_id), desk.settings().place_timeout_s
    except Exception as error:  # nothing has left yet: the database is away, or the account is gone
        log.warning("a call could not be made", extra={"call_id": call.id}, exc_info=True)
        return tuple(NotSent(f"{type(error).__name__}: {error}") for _ in call.orders)
    if health is not None and (wait_s := health.wait_s(broker, PLACE)) > 0:
        return tuple(NotSent("the circuit is open", retry_after_s=min(wait_s, CIRCUIT_LOOK_S)) for _ in call.orders)
    try:
        crash("dispatch.before_call")
        outcomes = tuple(desk.adapters[broker].place(session, lines, timeout_s=timeout_s, send_by=call.send_by))
        crash("dispatch.after_call")
        if len(outcomes) != len(lines):
            raise ValueError(f"{len(outcomes)} outcomes for {len(lines)} lines")
    except Exception as error:
        # The adapter promises to raise nothing; a defect of ours says nothing about what the broker did.
        log.exception("a call ended in a defect", extra={"call_id": call.id})
        return tuple(Unknown(f"{type(error).__name__}: {error}") for _ in call.orders)
    return outcomes
