"""The parts of a house for engine tests: brokers that do as they are told, wake-ups that are written down, desks."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from typing import Any

from brokers.base import Funds, Hint, Line, Payload, Session
from domain.capabilities import Capabilities
from domain.commands import Command, CommandKind
from domain.events import fold
from domain.ids import new_id
from domain.instruments import Instrument
from domain.intents import Acceptance, PlaceRequest, Submission
from domain.lifecycle import TERMINAL, OrderState
from domain.orders import Order, OrderType, Product, Validity
from domain.outcomes import Accepted, BookRow, Fill, Outcome, Refused, Unreadable
from domain.positions import Position
from domain.reference import cash_instruments
from domain.verdicts import Proceed, Verdict
from ops.sandbox import SandboxAccount
from pipeline.changes import ChangeGroup
from pipeline.desk import Desk, Environment
from pipeline.intake import Intake
from pipeline.intake_group import Facts, IntakeGroup, Step
from pipeline.stage import Engine, Policy
from pipeline.stages.change import Changer
from pipeline.stages.dispatch import Dispatcher
from pipeline.stages.persist import OutcomeGroup
from store import commands, orders
from store.unit import Store

SECRET = "s" * 64
BROKER = "fake"
ACCOUNTS = tuple(
    SandboxAccount(f"FK{number:04d}", BROKER, "key", "secret", "token", limit_paise=10**13) for number in range(1, 5)
)
POLICY = Policy(3, (60_000, 60_000))
STAGES = ("validate", "risk", "margin", "route")
PATIENCE_S = 15.0
FREEZE = 89_000  # of NSE:INFY: one order may have no more


def eventually(question: Callable[[], Any], within_s: float = PATIENCE_S) -> Any:
    """The first answer that is true; an assertion error where none came in time."""
    deadline = time.monotonic() + within_s
    pause = threading.Event()
    while not (answer := question()):
        assert time.monotonic() < deadline, f"not within {within_s} s"
        pause.wait(0.01)
    return answer


class FakeBroker:
    """A broker in this process: takes every order, unless `answer` says otherwise, and shows the book it is given."""

    name = BROKER

    def __init__(
        self,
        answer: Callable[[Line], Outcome] | None = None,
        *,
        lines_per_call: int = 1,
        call_slots: int = 8,
        name: str = BROKER,
    ) -> None:
        self.name = name
        self.answer = answer or (lambda line: Accepted(f"B-{line.order.broker_tag}"))
        self.calls: list[tuple[Line, ...]] = []
        self.cancels: list[str] = []  # the broker's ids of the orders it was asked to cancel
        self.books: dict[str, Sequence[BookRow] | Unreadable] = {}
        self.held: dict[str, Sequence[Position] | Unreadable] = {}
        self.money: dict[str, Funds | Unreadable] = {}
        self.capabilities = Capabilities(
            broker=name,
            exchanges=frozenset({"NSE"}),
            products=frozenset(Product),
            order_types=frozenset(OrderType),
            validities=frozenset(Validity),
            lines_per_call=lines_per_call,
            call_slots=call_slots,
        )

    @property
    def tags(self) -> list[str]:
        """Of every line it was sent, in the order of their coming."""
        return [line.order.broker_tag for call in self.calls for line in call]

    def payload(self, session: Session, lines: Sequence[Line]) -> Sequence[Payload]:
        tags = ",".join(line.order.broker_tag for line in lines)
        secret = {"Authorization": session.access_token}
        return [Payload(tuple(range(len(lines))), "POST", "http://fake", "/place", {}, secret, tags.encode())]

    def place(
        self, session: Session, lines: Sequence[Line], *, timeout_s: float, send_by: float | None = None
    ) -> Sequence[Outcome]:
        self.calls.append(tuple(lines))
        return [self.answer(line) for line in lines]

    def book(self, session: Session, *, timeout_s: float) -> Sequence[BookRow] | Unreadable:
        return self.books.get(session.account_id, [])

    def modify(
        self,
        session: Session,
        broker_order_id: str,
        line: Line,
        *,
        changed: Collection[str],
        timeout_s: float,
        send_by: float | None = None,
    ) -> Outcome:
        raise NotImplementedError

    def cancel(
        self, session: Session, broker_order_id: str, *, timeout_s: float, send_by: float | None = None
    ) -> Outcome:
        self.cancels.append(broker_order_id)
        self.end(session.account_id, broker_order_id, OrderState.CANCELLED)
        return Accepted(broker_order_id)

    def end(self, account_id: str, broker_order_id: str, state: OrderState, **figures: Any) -> bool:
        """Have a live order of the book end; gives whether it was there and live."""
        book = self.books.get(account_id, [])
        if isinstance(book, Unreadable):
            return False
        ends = {
            number: replace(row, state=state, status=state.lower(), **figures)
            for number, row in enumerate(book)
            if row.broker_order_id == broker_order_id and row.state not in TERMINAL
        }
        self.books[account_id] = [ends.get(number, row) for number, row in enumerate(book)]
        return bool(ends)

    def funds(self, session: Session, *, timeout_s: float) -> Funds | Unreadable:
        return self.money.get(session.account_id, Unreadable("nobody told"))

    def positions(self, session: Session, *, timeout_s: float) -> Sequence[Position] | Unreadable:
        return self.held.get(session.account_id, Unreadable("nobody told"))

    def hint(self, session: Session, headers: dict[str, str], body: bytes) -> Hint | None:
        return None


class BookedBroker(FakeBroker):
    """Its book follows what it takes: every order that is accepted rests there until it is cancelled or filled.

    `on_cancel` is asked before a cancel takes effect: with an outcome it has none.
    """

    def __init__(self, answer: Callable[[Line], Outcome] | None = None, **given: Any) -> None:
        super().__init__(answer, **given)
        self.on_cancel: Callable[[str], Outcome | None] = lambda broker_order_id: None
        self._booking = threading.Lock()

    def place(
        self, session: Session, lines: Sequence[Line], *, timeout_s: float, send_by: float | None = None
    ) -> Sequence[Outcome]:
        outcomes = super().place(session, lines, timeout_s=timeout_s, send_by=send_by)
        for line, outcome in zip(lines, outcomes, strict=True):
            if isinstance(outcome, Accepted):
                self.rest(session.account_id, line)
        return outcomes

    def rest(self, account_id: str, line: Line) -> None:
        tag, quantity = line.order.broker_tag, line.order.quantity
        row = a_row(tag, state=OrderState.OPEN, quantity=quantity)
        with self._booking:
            self.books[account_id] = [*self.books.get(account_id, ()), row]  # type: ignore[misc]

    def fill(self, account_id: str, broker_order_id: str, quantity: int) -> bool:
        with self._booking:
            return self.end(
                account_id,
                broker_order_id,
                OrderState.FILLED,
                filled_quantity=quantity,
                average_price=Decimal(1500),
                fills=(Fill(f"T-{broker_order_id}", "NSE", quantity, Decimal(1500), utc_now()),),
            )

    def row(self, broker_order_id: str) -> BookRow:
        """What the book shows of one order."""
        books = [book for book in self.books.values() if not isinstance(book, Unreadable)]
        return next(row for book in books for row in book if row.broker_order_id == broker_order_id)

    def cancel(
        self, session: Session, broker_order_id: str, *, timeout_s: float, send_by: float | None = None
    ) -> Outcome:
        self.cancels.append(broker_order_id)
        if (outcome := self.on_cancel(broker_order_id)) is not None:
            return outcome
        with self._booking:
            is_live = self.end(session.account_id, broker_order_id, OrderState.CANCELLED)
        return Accepted(broker_order_id) if is_live else Refused("OVER", "this order is over already")


class NotedWakeups:
    """Wake-ups written down, and sent nowhere."""

    def __init__(self) -> None:
        self.woken: list[str] = []
        self.connected = True

    def wake(self, stage: str, *, since: datetime | None = None, deep: bool = False) -> None:
        self.woken.append(stage)

    def wake_later(self, stage: str, wait_s: float) -> None:
        self.woken.append(stage)

    def stop(self, timeout_s: float = 2.0) -> None: ...


class NoRedis:
    """News goes nowhere."""

    def publish(self, channel: str, message: bytes) -> int:
        return 0

    def close(self) -> None: ...


class HouseDesk(Desk):
    """A desk with the cash instruments only: quickly read."""

    def instruments(self) -> Mapping[str, Instrument]:
        return _instruments()


@cache
def _instruments() -> dict[str, Instrument]:
    return {instrument.key: instrument for instrument in cash_instruments()}


@dataclass
class House:
    """One record, and as many processes around it as a test wants."""

    database_url: str
    owner_database_url: str
    user_id: str
    queue_url: str = "amqp://guest:guest@127.0.0.1:1/"
    redis_url: str = "redis://127.0.0.1:1/0"
    _closing: list[Callable[[], object]] = field(default_factory=list)
    _store: Store | None = None

    @property
    def store(self) -> Store:
        """For looking at the record, beside every process's own."""
        if self._store is None:
            self._store = Store(self.database_url, name="look", size=4)
            self._closing.append(self._store.close)
        return self._store

    def desk(self, *brokers: FakeBroker, database_url: str | None = None, claims: bool = True, size: int = 8) -> Desk:
        url = database_url or self.database_url
        desk = HouseDesk(
            environment=Environment(url, self.queue_url, self.redis_url, SECRET),
            store=Store(url, name="engine", size=size),
            wakeups=NotedWakeups(),  # type: ignore[arg-type]
            redis=NoRedis(),  # type: ignore[arg-type]
            adapters={broker.name: broker for broker in brokers or (FakeBroker(),)},
            claim_store=Store(url, name="claims", size=4, durable=False) if claims else None,
        )
        self._closing.append(desk.close)
        return desk

    def intake(self, desk: Desk | None = None) -> Intake:
        intake = Intake(desk or self.desk())
        self._closing.append(intake.stop)
        return intake

    def dispatcher(self, desk: Desk, **given: Any) -> Dispatcher:
        dispatcher = Dispatcher(desk, BROKER, **given)
        self._closing.append(lambda: dispatcher.stop(2.0))
        return dispatcher

    def changer(self, desk: Desk, kind: CommandKind = CommandKind.CANCEL, **given: Any) -> Changer:
        changer = Changer(desk, BROKER, kind, **given)
        self._closing.append(lambda: changer.stop(2.0))
        return changer

    def accept(self, lines: int = 1, *, desk: Desk | None = None, **terms: Any) -> Acceptance:
        """An intent of so many lines, written down."""
        own = desk or self.desk()
        intake = Intake(own)
        try:
            return intake.submit(self.submission(lines, **terms)).result(PATIENCE_S)
        finally:
            intake.stop()
            if desk is None:
                own.close()

    def accept_many(self, intents: int, lines: int = 1, **terms: Any) -> list[str]:
        """The order ids of so many intents."""
        desk = self.desk()
        intake = Intake(desk)
        try:
            answers = [intake.submit(self.submission(lines, **terms)) for _ in range(intents)]
            return [line.order_id for answer in answers for line in answer.result(PATIENCE_S).lines]
        finally:
            intake.stop()
            desk.close()

    def submission(
        self,
        lines: int = 1,
        *,
        key: str | None = None,
        fingerprint: bytes = b"f" * 32,
        max_unsent_s: int | None = None,
        policy: str | None = None,
        **terms: Any,
    ) -> Submission:
        line = {
            "instrument": "NSE:INFY",
            "side": "BUY",
            "quantity": 10,
            "product": "CNC",
            "orderType": "LIMIT",
            "price": "1500.00",
            "account": "FK0001",
            **terms,
        }
        orders_ = [{"correlationId": f"c{number}", **line} for number in range(lines)]
        request = PlaceRequest.model_validate({"orders": orders_, "maxUnsentSec": max_unsent_s, "policy": policy})
        return Submission(self.user_id, self.user_id, key or new_id(), fingerprint, request)

    def rows(self, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
        with self.store.unit() as unit:
            return unit.rows(sql, parameters)

    def run(self, sql: str, *parameters: Any) -> None:
        with self.store.unit() as unit:
            unit.run(sql, parameters)

    def order(self, order_id: str) -> Order:
        with self.store.unit() as unit:
            return orders.lock(unit, [order_id])[order_id]

    def command(self, order_id: str) -> Command:
        with self.store.unit() as unit:
            return commands.lock(unit, [order_id])[order_id]

    def states(self, order_ids: Sequence[str]) -> list[str]:
        with self.store.unit() as unit:
            held = orders.lock(unit, list(order_ids))
        return [held[order_id].state.value for order_id in order_ids]

    def events(self, order_id: str) -> list[str]:
        return [
            row[0]
            for row in self.rows("select event_type from order_events where order_id = %s order by seq", order_id)
        ]

    def due_now(self) -> None:
        """What waits for its next try or the end of its lease is due at once."""
        moment = "now() - interval '1 millisecond'"
        self.run(f"update commands set due_at = {moment} where due_at > now()")  # noqa: S608
        self.run(f"update commands set lease_until = {moment} where lease_until > now()")  # noqa: S608

    def settled(self, order_ids: Sequence[str]) -> None:
        """Wait until the calls of these orders have ended and their outcomes are written down."""
        unended = "select 1 from attempts where order_id = any(%s::uuid[]) and outcome is null"
        eventually(lambda: all(self.command(order_id).fence for order_id in order_ids))
        eventually(lambda: not self.rows(unended, list(order_ids)))

    def close(self) -> None:
        for close in reversed(self._closing):
            close()

    def check(self) -> None:
        """What must hold of every record at every moment: raises AssertionError otherwise."""
        with self.store.unit() as unit:
            rows = unit.rows(f"select {orders.COLUMNS} from orders")  # noqa: S608
            held = {order.id: order for order in map(orders.from_row, rows)}
            events: dict[str, list[Any]] = {order_id: [] for order_id in held}
            for order_id, *event in orders.events_of(unit, held):
                events[order_id].append(tuple(event))
            totals = unit.rows("select id, blocked_paise, exposure_paise, open_orders from accounts")
        taken = {account_id: [0, 0, 0] for account_id, *_ in totals}
        for order in held.values():
            folded = fold(events[order.id])
            assert folded == {name: getattr(order, name) for name in folded}, f"order {order.id}"
            if order.account_id is not None and order.state not in ("FILLED", "CANCELLED", "REJECTED", "EXPIRED"):
                taken[order.account_id][0] += order.blocked_paise
                taken[order.account_id][1] += order.exposure_paise
                taken[order.account_id][2] += not order.is_parent
            elif order.account_id is not None:
                assert (order.blocked_paise, order.exposure_paise) == (0, 0), f"order {order.id}"
        assert {account_id: list(sums) for account_id, *sums in totals} == taken


def steps(**judges: Callable[[Order, Facts], Verdict]) -> tuple[Step, ...]:
    """The four stages; those not given let every order pass."""
    return tuple(Step(name, POLICY, judges.get(name, proceed)) for name in STAGES)


def proceed(_order: Order, _facts: Facts) -> Verdict:
    return Proceed()


def intake_engine(desk: Desk, *chosen: Step, **judges: Callable[[Order, Facts], Verdict]) -> Engine:
    return Engine(desk, IntakeGroup(desk, chosen or steps(**judges)))


def change_engine(desk: Desk) -> Engine:
    return Engine(desk, ChangeGroup(desk))


def outcome_engine(desk: Desk) -> Engine:
    return Engine(desk, OutcomeGroup(desk))


def a_row(tag: str | None, /, **given: Any) -> BookRow:
    terms: dict[str, Any] = {
        "broker_order_id": f"B-{tag}",
        "tag": tag,
        "state": None,
        "status": "open",
        "quantity": 10,
        "filled_quantity": 0,
        "average_price": None,
    }
    return BookRow(**{**terms, **given})


def utc_now() -> datetime:
    return datetime.now(UTC)


def rupees(text: str) -> Decimal:
    return Decimal(text)
