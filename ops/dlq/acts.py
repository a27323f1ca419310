"""`coordinator dlq requeue`, `park`, `unpark`, `settle` and `discard`: one order, with who and why in the audit log."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.text import Text

from domain.lifecycle import AT_BROKER, TERMINAL, OrderState
from ops.answers import Json
from ops.commandline import Flag
from ops.dlq.here import by_whom, desk_here, given, whole_id
from ops.exits import Exit, Failed
from ops.operating import DEFAULTS, Options
from ops.show import moment, price, short
from ops.spans import read_span

if TYPE_CHECKING:
    from pipeline.deadletters import By

STATES = tuple(sorted(state.value for state in AT_BROKER | TERMINAL))


def dlq_requeue(order_id: str, /, *, reason: str, operator: str | None = None, options: Options = DEFAULTS) -> Exit:
    """Send a stuck order back to its stage, with a clean count of tries.

    Refused where it would be sent again and a broker may have it already.

    Args:
        order_id: its id, or the last characters of it as the list shows them.
        reason: why; it is recorded in the audit log.
        operator: who; the user of this machine when not given.
    """
    from pipeline import deadletters, letters

    with desk_here(options) as (screen, desk):
        by, full_id = by_whom(operator, reason), whole_id(desk, order_id)
        told = deadletters.requeue(desk, full_id, by)
        letters.tidy(desk, [told["from"]])
        words = f"order {full_id} goes on at {told['stage']}; to follow: trader order explain {short(full_id)}"
        screen.result(_document(told, by), Text(words))
        return Exit.OK


def dlq_discard(
    order_id: str, /, *, reason: str, operator: str | None = None, yes: Flag = False, options: Options = DEFAULTS
) -> Exit:
    """Give a stuck order up for good: it is rejected, and what it held of its account is freed.

    Of a stuck cancel only the cancel is given up: the order lives on. Refused where a broker may have heard of it already.

    Args:
        order_id: its id, or the last characters of it as the list shows them.
        reason: why; it is recorded in the audit log, and the client sees it.
        operator: who; the user of this machine when not given.
        yes: it can't be undone, and this says that you know.
    """
    from pipeline import deadletters, letters

    with desk_here(options) as (screen, desk):
        by, full_id = by_whom(operator, reason), whole_id(desk, order_id)
        if not yes:
            raise Failed(Exit.USAGE, f"discarding order {full_id} can't be undone", mend="Say --yes if you mean it.")
        told = deadletters.discard(desk, full_id, by)
        letters.tidy(desk, [told["from"]])
        what = f"the {told['kind']} of order" if "kind" in told else "order"
        screen.result(_document(told, by), Text(f"{what} {full_id} is given up; it was stuck in {told['from']}"))
        return Exit.OK


def dlq_park(
    order_id: str,
    /,
    *,
    reason: str,
    lasts: Annotated[str | None, Parameter(name="--for")] = None,
    operator: str | None = None,
    options: Options = DEFAULTS,
) -> Exit:
    """Take a stuck or unknown order out of the list; it stays what it is, and `dlq list --parked` shows it.

    Args:
        order_id: its id, or the last characters of it as the list shows them.
        reason: why; it is recorded in the audit log.
        lasts: for how long, such as 30m, 2h or 1d; until `dlq unpark` when not given.
        operator: who; the user of this machine when not given.
    """
    from pipeline import deadletters

    with desk_here(options) as (screen, desk):
        by, span, full_id = by_whom(operator, reason), _span(lasts), whole_id(desk, order_id)
        told = deadletters.park(desk, full_id, by, desk.now() + span if span else None)
        until = f"until {moment(told['until'])} IST" if told["until"] else f"until: coordinator dlq unpark {short(full_id)}"
        screen.result(_document(told, by), Text(f"order {full_id} is parked {until}"))
        return Exit.OK


def dlq_unpark(order_id: str, /, *, reason: str, operator: str | None = None, options: Options = DEFAULTS) -> Exit:
    """Take a parked order back into the list.

    Args:
        order_id: its id, or the last characters of it as the list shows them.
        reason: why; it is recorded in the audit log.
        operator: who; the user of this machine when not given.
    """
    from pipeline import deadletters

    with desk_here(options) as (screen, desk):
        by, full_id = by_whom(operator, reason), whole_id(desk, order_id)
        screen.result(_document(deadletters.unpark(desk, full_id, by), by), Text(f"order {full_id} is in the list again"))
        return Exit.OK


def dlq_settle(
    order_id: str,
    /,
    *,
    evidence: str,
    reason: str,
    broker_order_id: str | None = None,
    state: str | None = None,
    filled: int | None = None,
    average: Decimal | None = None,
    not_taken: Flag = False,
    resend: Flag = False,
    operator: str | None = None,
    yes: Flag = False,
    options: Options = DEFAULTS,
) -> Exit:
    """Say what the broker did with an order of which nobody else can tell: taken, and as what, or not taken.

    Look in the broker's order book first, for the order's tag. It becomes the order's state, with your name, your
    evidence and your reason in its history. What the broker's book says later still counts, but an end stays an end.

    Args:
        order_id: its id, or the last characters of it as the list shows them.
        evidence: what you have seen, and where, so that somebody else can look it up.
        reason: why you settle it by hand; it is recorded in the audit log.
        broker_order_id: the broker has it, under this number.
        state: as what: SUBMITTED, OPEN, TRIGGER_PENDING, PARTIALLY_FILLED, FILLED, CANCELLED, REJECTED or EXPIRED.
        filled: how much of it is filled; all of it for FILLED and nothing otherwise, when not given.
        average: the average price in rupees, where anything is filled.
        not_taken: the broker has no such order; it is rejected.
        resend: with --not-taken: it isn't rejected, but sent again if its time allows.
        operator: who; the user of this machine when not given.
        yes: it can't be undone, and this says that you know.
    """
    from domain.settlements import NotTaken, Taken
    from pipeline import deadletters, letters, stuck

    with desk_here(options) as (screen, desk):
        by, seen = by_whom(operator, reason), given(evidence, "evidence")
        if not_taken == (broker_order_id is not None):
            mend = "Give --broker-order-id and --state, or --not-taken."
            raise Failed(Exit.USAGE, "it was taken, or it was not: one of the two is wanted", mend=mend)
        if not not_taken and (state is None or state.upper() not in STATES):
            raise Failed(Exit.USAGE, "--state is needed, one of " + ", ".join(STATES))
        full_id = whole_id(desk, order_id)
        if not yes:
            raise Failed(Exit.USAGE, f"settling order {full_id} can't be undone", mend="Say --yes if you mean it.")
        settlement: Taken | NotTaken = NotTaken(resend=resend)
        if broker_order_id is not None and state is not None:
            is_filled = state.upper() == OrderState.FILLED
            whole = int(stuck.explain(desk, full_id)["item"]["quantity"]) if filled is None and is_filled else 0
            settlement = Taken(
                broker_order_id=broker_order_id,
                state=OrderState(state.upper()),
                filled_quantity=whole if filled is None else filled,
                average_price=average,
            )
        told = deadletters.settle(desk, full_id, by, seen, settlement)
        letters.tidy(desk, [told["from"]])
        figures = f", {told['filled']} filled at {price(told['average'])}" if told.get("filled") else ""
        screen.result(_document(told, by), Text(f"order {full_id} is {told['state']} now{figures}"))
        return Exit.OK


def _document(told: Json, by: By) -> Json:
    return {**told, "operator": by.operator, "reason": by.reason}


def _span(text: str | None) -> timedelta | None:
    if text is None:
        return None
    span = read_span(text)
    if span is None:
        raise Failed(Exit.USAGE, f"{text} is no time to park for", mend="Such as 30m, 2h or 1d.")
    return span
