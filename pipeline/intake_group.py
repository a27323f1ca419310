"""The intake group: validate, risk, margin and route, one order at a time, in one transaction for the whole batch.

Each stage keeps its queue, its tries and its dead letters; but since none of the four does anything outside the
record, an order goes through all of them before anything is written (docs/decisions/0002-one-transaction-per-group.md).
An order that failed or waits at a later stage is judged again from the first: nothing was taken for it before.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any

from domain.accounts import Account, Totals
from domain.capabilities import Capabilities
from domain.commands import Command, CommandState
from domain.events import EventType, Source, advance
from domain.groups import holds
from domain.instruments import Instrument
from domain.lifecycle import UNSENT, OrderState
from domain.orders import Order
from domain.settings import Settings
from domain.verdicts import Proceed, Reject, Verdict, Wait
from pipeline.batch import Batch
from pipeline.candidates import candidates
from pipeline.chain import GROUPS
from pipeline.clearing import send_on
from pipeline.desk import Desk
from pipeline.permits import Permits, look_at_positions, permits_of
from pipeline.stage import Policy
from pipeline.unsent import CANCELLED, ends_of
from store import accounts, attempts
from store.unit import Unit


@dataclass(slots=True)
class Facts:
    """What the four stages judge a batch by, gathered once. `totals` change as orders of the batch take from them."""

    now: datetime
    settings: Settings
    instruments: Mapping[str, Instrument]
    capabilities: Mapping[str, Capabilities]  # by broker
    choices: Mapping[str, Account]  # by order id: the candidate that is judged
    totals: Mapping[str, Totals]  # of the candidates that are judged; locked, but for a preview
    able: Mapping[str, Sequence[Account]]  # by order id: all candidates, the preferred one first
    permits: Permits = field(default_factory=lambda: Permits({}))  # what the switches let through
    defaults: Mapping[str, str] = field(default_factory=dict)  # by user: the broker that it has chosen as its default
    kept: dict[str, Any] = field(default_factory=dict)  # what a stage makes of these for the batch


Judge = Callable[[Order, Facts], Verdict]


@dataclass(frozen=True, slots=True)
class Step:
    """One stage of the group.

    `prepare` makes, once for a batch, what the judge finds in `facts.kept` under the stage's name; `undo` gives back
    what the judge has taken when a later stage refuses.
    """

    name: str
    policy: Policy
    judge: Judge
    prepare: Callable[[Facts], object] | None = None
    undo: Callable[[Order, Facts], None] | None = None


class Judges:
    """The stages at work on any orders, be they of a batch or of a preview."""

    def __init__(self, desk: Desk, steps: Sequence[Step]) -> None:
        self._desk, self._steps = desk, tuple(steps)
        self._capabilities = {name: adapter.capabilities for name, adapter in desk.adapters.items()}

    def gather(
        self,
        orders: Iterable[Order],
        now: datetime,
        read_totals: Callable[[Sequence[str]], Mapping[str, Totals]],
        tried: Mapping[str, Collection[str]],
        unit: Unit | None = None,
    ) -> Facts:
        """What the orders are judged by. `tried` are the brokers that didn't take an order, by its id.

        The switches are read in the unit, before `read_totals` locks the accounts; without one they don't count.
        """
        settings, directory, instruments = self._desk.settings(), self._desk.directory(), self._desk.instruments()
        chosen = directory.user_settings
        defaults = {user: own.default_broker for user, own in chosen.items() if own.default_broker is not None}
        choices, able, asked = {}, {}, []
        for order in orders:
            owned = directory.of_user.get(order.user_id, ())
            able[order.id] = found = candidates(
                order, owned, self._capabilities, instruments.get(order.instrument), settings, defaults.get(order.user_id)
            )
            if found:
                # What a broker hasn't taken goes to another one; where all were asked, to the first again.
                untried = (account for account in found if account.broker not in tried.get(order.id, ()))
                choices[order.id] = account = next(untried, found[0])
                asked.append((order, account.id, _key(order, instruments)))
        permits = Permits({}) if unit is None else permits_of(unit, asked)
        totals = read_totals(sorted({account.id for account in choices.values()}))
        if unit is not None:
            look_at_positions(unit, permits, asked, now)
        facts = Facts(now, settings, instruments, self._capabilities, choices, totals, able, permits, defaults)
        for step in self._steps:
            if step.prepare is not None:
                facts.kept[step.name] = step.prepare(facts)
        return facts

    def judge(self, order: Order, facts: Facts) -> tuple[list[dict[str, Any]], Verdict]:
        """What each stage says, as far as the order gets, and the last verdict.

        Where that is no Proceed, what the stages before have taken for the order is given back.
        """
        account_id, key = facts.choices[order.id].id, _key(order, facts.instruments)
        said: list[dict[str, Any]] = []
        verdict: Verdict = Proceed()
        if (forbidden := facts.permits.judge(order, account_id, key)) is not None:
            return [_told(self._steps[0].name, forbidden)], forbidden
        for number, step in enumerate(self._steps):
            verdict = step.judge(order, facts)
            said.append(_told(step.name, verdict))
            if isinstance(verdict, Proceed):
                continue
            for earlier in reversed(self._steps[:number]):
                if earlier.undo is not None:
                    earlier.undo(order, facts)
            return said, verdict
        facts.permits.take(order, account_id, key)
        return said, verdict


class IntakeGroup:
    def __init__(self, desk: Desk, steps: Sequence[Step]) -> None:
        self._desk, self._judges = desk, Judges(desk, steps)
        self.policies: Mapping[str, Policy] = {step.name: step.policy for step in steps}

    def decide(self, unit: Unit, claimed: Sequence[Command], held: Mapping[str, Order], batch: Batch) -> None:
        called = [command.order_id for command in claimed if command.fence]
        tried = attempts.brokers_tried(unit, called) if called else {}
        ends = ends_of(unit, held.values())
        facts = self._judges.gather(held.values(), batch.at, partial(accounts.lock, unit), tried, unit)
        for command in sorted(claimed, key=_age):  # lines of one request fall due together: in their order
            order = held[command.order_id]
            try:
                self._judge(command, order, facts, ends, batch)
            except Exception as error:  # noqa: BLE001 - one order's failure is its own
                batch.failures[order.id] = error
                continue
            batch.commands.append(command)
        batch.counted.extend(facts.totals.values())

    def _judge(
        self, command: Command, order: Order, facts: Facts, ends: Mapping[str, Reject], batch: Batch
    ) -> None:
        if order.state not in UNSENT:
            command.finish("notify", batch.at)
            return
        if order.cancel_requested:
            self._end(command, order, OrderState.CANCELLED, ends.get(order.id, CANCELLED), batch)
            return
        if batch.at >= order.send_before:
            why = f"not sent by {order.send_before.isoformat(timespec='seconds')}, its limit"
            self._end(command, order, OrderState.REJECTED, Reject("EXPIRED_UNSENT", (why,)), batch)
            return
        account = facts.choices.get(order.id)
        if account is None:
            self._end(command, order, OrderState.REJECTED, no_route(order), batch)
            return
        before = order.broker, order.account_id, order.blocked_paise, order.exposure_paise
        if order.account_id is not None:
            _take_back(order, facts)  # it comes back from a broker that didn't take it
        order.broker, order.account_id = account.broker, account.id
        said, verdict = self._judges.judge(order, facts)
        if isinstance(verdict, Proceed):
            self._clear(command, order, facts, said, batch)
        elif isinstance(verdict, Wait):
            order.broker, order.account_id, order.blocked_paise, order.exposure_paise = before
            if order.account_id is not None:
                _count(order, facts, 1)
            command.stage, command.state = said[-1]["stage"], CommandState.READY
            command.due_at = min(verdict.until, order.send_before)  # at its limit it is refused
            command.error, command.deaths = verdict.why, 0
        else:
            self._end(command, order, OrderState.REJECTED, verdict, batch, said)

    def _clear(
        self, command: Command, order: Order, facts: Facts, said: list[dict[str, Any]], batch: Batch
    ) -> None:
        account = facts.choices[order.id]
        changes: dict[str, Any] = {
            "broker": account.broker,
            "account_id": account.id,
            "blocked_paise": order.blocked_paise,
            "exposure_paise": order.exposure_paise,
        }
        key = facts.instruments[order.instrument].key
        if key != order.instrument:
            changes["instrument"] = key  # an alias names another contract tomorrow
        because = {"verdicts": said, "tag": order.broker_tag}
        state: OrderState | None = None
        # What has been at a broker once was let go by its group before.
        if order.policy is not None and not command.fence and holds(order.policy, order.line, order.after):
            state = OrderState.HELD
            command.hold(GROUPS, order.send_before)
        else:
            instrument = facts.instruments[order.instrument]
            order.instrument = key
            more, told = send_on(command, order, instrument, self._desk.environment.installation, batch)
            changes |= more
            because |= told
        event = advance(
            order, EventType.CLEARED, Source.PIPELINE, batch.at, state=state, changes=changes, because=because
        )
        batch.change(order, event)

    def _end(
        self,
        command: Command,
        order: Order,
        state: OrderState,
        verdict: Reject,
        batch: Batch,
        said: list[dict[str, Any]] | None = None,
    ) -> None:
        changes = {
            "broker": order.broker,
            "account_id": order.account_id,
            "reason_code": verdict.code,
            "reason": verdict.text,
        }
        event_type = EventType.CANCELLED if state is OrderState.CANCELLED else EventType.REJECTED
        because = {"verdicts": said or [], "stage": said[-1]["stage"] if said else command.stage}
        batch.change(
            order,
            advance(order, event_type, Source.PIPELINE, batch.at, state=state, changes=changes, because=because),
        )
        command.finish("notify", batch.at)
        batch.news.add(order.intent_id)


def _age(command: Command) -> tuple[datetime, str]:
    return command.due_at, command.order_id


def _key(order: Order, instruments: Mapping[str, Instrument]) -> str:
    """The canonical name of an order's instrument, which an alias isn't."""
    instrument = instruments.get(order.instrument)
    return order.instrument if instrument is None else instrument.key


def _take_back(order: Order, facts: Facts) -> None:
    """What the order holds of its last account is free for it to be judged anew; the batch books the difference."""
    _count(order, facts, -1)
    order.blocked_paise = order.exposure_paise = 0


def _count(order: Order, facts: Facts, sign: int) -> None:
    """What the order holds of its account, in the totals that the batch is judged by."""
    totals = facts.totals.get(order.account_id or "")
    if totals is not None:
        totals.blocked_paise += sign * order.blocked_paise
        totals.exposure_paise += sign * order.exposure_paise
        totals.open_orders += sign


def _told(stage: str, verdict: Verdict) -> dict[str, Any]:
    match verdict:
        case Proceed(facts):
            return {"stage": stage, "verdict": "PROCEED", "facts": facts}
        case Reject(code, reasons):
            return {"stage": stage, "verdict": "REJECT", "code": code, "reasons": reasons}
        case Wait(until, why):
            return {"stage": stage, "verdict": "WAIT", "until": until, "why": why}


def no_route(order: Order) -> Reject:
    if order.wanted_account is not None:
        return Reject("NO_ACCOUNT", (f"you have no account {order.wanted_account} at {order.wanted_broker or 'any broker'}",))
    if order.wanted_broker is not None:
        return Reject("NO_ACCOUNT", (f"you have no account at {order.wanted_broker}",))
    return Reject("NO_ACCOUNT", ("you have no account at any broker",))
