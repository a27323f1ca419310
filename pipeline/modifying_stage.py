"""The stage `modify`: judges what was asked, has it called for, and says by the broker's book what became of it.

A modify is never asked for twice: where nobody knows how its call ended, the order is read until its book tells.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any

from domain.changes import Change, Result, Told, result_of_end
from domain.commands import Command
from domain.events import EventType, Source, advance
from domain.lifecycle import TERMINAL, OrderState
from domain.modifies import Why, has, modified, outdated, shows_taken, terms_of
from domain.orders import Order
from domain.settings import Settings
from domain.switches import Mode
from domain.verdicts import Reject
from pipeline.batch import Batch
from pipeline.changes import finish, send, wait
from pipeline.desk import Desk
from pipeline.permits import Asked, Permits, halted_text, look_at_positions, permits_of
from pipeline.reports import READ, from_body
from pipeline.stage import Policy
from pipeline.stages import modify
from pipeline.stages.modify import Holding
from pipeline.terms import HOLDS, Read, Weigh, is_believed
from pipeline.weighing import facts_of, weigher
from store import accounts, changes, intents, reports
from store.unit import Unit

SUBMITTED_FOR = timedelta(seconds=5)  # so long a modify waits for its order to get to the exchange, before it is asked for
LOOK_AGAIN = timedelta(milliseconds=100)  # where what the book has shown isn't applied yet


@dataclass(frozen=True, slots=True)
class Facts:
    """What a batch of modifies is judged by. `shown` is each order's newest dated report, by order id."""

    settings: Settings
    permits: Permits
    revoked: Collection[str]  # intents whose keys are good no more
    judges: modify.Facts
    weigh: Weigh
    waiting: Collection[str]  # orders of which something was told that isn't applied yet
    shown: Mapping[str, dict[str, Any]]


class ModifyGroup:
    """What to do next about each modify, in one transaction for the batch."""

    policies: Mapping[str, Policy] = MappingProxyType({"modify": Policy(10, (200, 10_000))})

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def decide(self, unit: Unit, claimed: Sequence[Command], held: Mapping[str, Order], batch: Batch) -> None:
        found = changes.of(unit, [(command.order_id, command.seq) for command in claimed])
        facts = self._gather(unit, found, held, batch.at)
        for command in claimed:
            order, change = held[command.order_id], found[command.order_id, command.seq]
            batch.hold(order)
            try:
                decide_modify(order, command, change, facts, batch)
            except Exception as error:  # noqa: BLE001 - one order's failure is its own
                batch.failures[order.id] = error
                continue
            batch.commands.append(command)
            batch.changes.append(change)
            batch.news.add(change.intent_id)

    def _gather(
        self, unit: Unit, found: Mapping[tuple[str, int], Change], held: Mapping[str, Order], at: datetime
    ) -> Facts:
        called = [change.order_id for change in found.values() if change.told in (Told.ACCEPTED, Told.UNKNOWN)]
        asked = [held[change.order_id] for change in found.values() if is_to_be_asked(change, held[change.order_id])]
        revoked, placed = revoked_intents(unit, self._desk, found.values()), at_their_accounts(asked)
        permits = permits_of(unit, placed)
        totals = accounts.lock(unit, sorted({account_id for _, account_id, _ in placed}))
        look_at_positions(unit, permits, placed, at, sent_only=True)
        return Facts(
            settings=self._desk.settings(),
            permits=permits,
            revoked=revoked,
            judges=facts_of(self._desk, asked, totals, at),
            weigh=weigher(self._desk, at),
            waiting=reports.waiting_of(unit, sorted(held)),
            shown=reports.newest_reads(unit, called) if called else {},
        )


def decide_modify(order: Order, command: Command, change: Change, facts: Facts, batch: Batch) -> None:
    """What follows for one modify."""
    if change.told in (None, Told.NOT_SENT) and order.state not in TERMINAL:
        _before_its_call(order, command, change, facts, batch)
    elif order.id in facts.waiting:
        command.due_at = batch.at + LOOK_AGAIN
        batch.wake_in(command.stage, LOOK_AGAIN.total_seconds())
    elif order.state in TERMINAL:
        taken = "the terms asked for were taken" if has(order, terms_of(change.wanted)) else "with the terms it had"
        reason = f"{taken}; {change.told_detail}" if change.told is Told.REFUSED else taken
        finish(order, command, change, result_of_end(order.state, cancel=False), batch, reason=reason)
    elif change.told is Told.REFUSED:
        why = ("BROKER_REFUSED", change.told_detail or "the broker refused it")
        refuse(order, command, change, Result.REFUSED, why, facts.weigh, batch, source=Source.BROKER_ANSWER)
    elif has(order, terms_of(change.wanted)):
        finish(order, command, change, Result.MODIFIED, batch)
    elif (told := _shows_others(order, change, facts.shown.get(order.id))) is not None:
        refuse(order, command, change, Result.NOT_APPLIED, ("NOT_APPLIED", told), facts.weigh, batch, source=Source.EVIDENCE)
    else:
        wait(command, change, batch, order=order)


def _before_its_call(order: Order, command: Command, change: Change, facts: Facts, batch: Batch) -> None:
    why = gate(order, change, facts.permits, facts.revoked, facts.settings, batch.at)
    if why is not None:
        result = Result.EXPIRED if why[0] == "EXPIRED_UNSENT" else Result.REFUSED
        refuse(order, command, change, result, why, facts.weigh, batch)
        return
    if order.state is OrderState.SUBMITTED and batch.at - change.asked_at < SUBMITTED_FOR:
        wait(command, change, batch)
        if order.broker is not None:
            batch.books.add(order.broker)
        return
    terms = terms_of(change.wanted)
    before = _without(order, change)
    totals = facts.judges.margin.totals[order.account_id or ""]
    totals.blocked_paise -= order.blocked_paise - before.blocked
    totals.exposure_paise -= order.exposure_paise - before.exposure
    judged = replace(order, blocked_paise=before.blocked, exposure_paise=before.exposure)
    verdict, needs = modify.decide(judged, modified(judged, terms), facts.judges)
    if isinstance(verdict, Reject):
        refuse(order, command, change, Result.REFUSED, (verdict.code, verdict.text), facts.weigh, batch, verdict=verdict)
        return
    most = before.most(needs)
    change.wanted = {**change.wanted, HOLDS: [[before.blocked, before.exposure], [needs.blocked, needs.exposure]]}
    if change.told is None or (order.blocked_paise, order.exposure_paise) != (most.blocked, most.exposure):
        said = {"stage": "modify", "verdict": "PROCEED", "facts": verdict.facts}
        because = {"modify": change.seq, "wanted": terms, "verdicts": [said]}
        held = {"blocked_paise": most.blocked, "exposure_paise": most.exposure}
        batch.change(
            order, advance(order, EventType.CLEARED, Source.PIPELINE, batch.at, changes=held, because=because)
        )
    send(order, command, batch)


def gate(
    order: Order, change: Change, permits: Permits, revoked: Collection[str], settings: Settings, at: datetime
) -> Why | None:
    """Why a modify may not be asked for at this moment; looked at before it is judged, and again where its call begins."""
    limit = change.asked_at + timedelta(seconds=settings.max_unsent_s)
    if at >= limit:
        return "EXPIRED_UNSENT", f"not sent by {limit.isoformat(timespec='seconds')}, its limit"
    if (why := outdated(order, change.wanted)) is not None:
        return why
    if change.intent_id in revoked:
        return "KEY_REVOKED", "the API key it came with was revoked"
    switch = permits.counting(order, order.account_id)
    if switch is None:
        return None
    if switch.mode is Mode.HALTED:
        return "HALTED", halted_text(switch)
    quantity = change.wanted.get("quantity", order.quantity)
    if quantity > order.quantity:
        return (
            "REDUCING_ONLY",
            f"quantity {quantity} is more than the {order.quantity} it is for; {switch.named} is {switch.mode}"
            f" ({switch.reason}, by {switch.by})",
        )
    if terms_of(change.wanted).keys() - {"quantity"} and (breach := permits.breach_of(order)) is not None:
        return "REDUCING_ONLY", f"only a smaller quantity is taken: {breach}; {switch.named} is {switch.mode} ({switch.reason})"
    return None


def is_to_be_asked(change: Change, order: Order) -> bool:
    return change.told in (None, Told.NOT_SENT) and order.state not in TERMINAL


def at_their_accounts(asked: Sequence[Order]) -> list[Asked]:
    return [(order, order.account_id, order.instrument) for order in asked if order.account_id is not None]


def revoked_intents(unit: Unit, desk: Desk, asked: Collection[Change]) -> frozenset[str]:
    """Those of the modifies' intents that came with a key that has been revoked since."""
    keys = desk.directory().revoked_keys
    if not keys:
        return frozenset()
    came = intents.keys_of(unit, sorted({change.intent_id for change in asked}))
    return frozenset(intent_id for intent_id, key_id in came.items() if key_id in keys)


def refuse(
    order: Order,
    command: Command,
    change: Change,
    result: Result,
    why: Why,
    weigh: Weigh,
    batch: Batch,
    *,
    source: Source = Source.PIPELINE,
    verdict: Reject | None = None,
) -> None:
    """The order's terms stay as they are, and what was held for the new ones is free again."""
    code, reason = why
    free = _without(order, change, weigh)
    held = Holding(order.blocked_paise, order.exposure_paise)
    given_back = {} if free == held else {"blocked_paise": free.blocked, "exposure_paise": free.exposure}
    because = {
        "modify": change.seq,
        "intent": change.intent_id,
        "result": result,
        "code": code,
        "reasons": list(verdict.reasons) if verdict is not None else [reason],
        "wanted": terms_of(change.wanted),
    }
    batch.change(
        order, advance(order, EventType.MODIFY_REFUSED, source, batch.at, changes=given_back, because=because)
    )
    finish(order, command, change, result, batch, code=code, reason=reason)


def _without(order: Order, change: Change, weigh: Weigh | None = None) -> Holding:
    """What the order holds where the modify counts for nothing."""
    holds = change.wanted.get(HOLDS)
    if holds is None or order.state in TERMINAL:
        return Holding(order.blocked_paise, order.exposure_paise)
    if weigh is not None and order.version != change.wanted.get("base_version"):
        return Holding(*weigh(order))  # its terms have moved on without this modify
    return Holding(*holds[0])


def _shows_others(order: Order, change: Change, body: dict[str, Any] | None) -> str | None:
    """What proves that the modify was not applied: a read, begun late enough, that shows the order with other terms.

    An old row proves nothing. Neither does one with the terms asked for that the order hasn't: its read overlapped
    another one, and the next will tell.
    """
    if body is None or change.proof_from is None:
        return None
    read, row = Read.of(body.get(READ)), from_body(body)
    if read is None or read.began <= change.proof_from or not is_believed(order, row, read, None):
        return None
    if shows_taken(row, order, terms_of(change.wanted)):
        return None
    said = f": {row.message}" if row.message else ""
    return f"the broker's book shows the terms it had, read at {read.began.isoformat(timespec='seconds')}{said}"
