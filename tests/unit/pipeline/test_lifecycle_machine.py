"""An order's whole life against a model of its broker: whatever is late, lost, repeated, reordered or crashes, one end.

The machine has the broker's truth (what it took, and each state it went through), an inbox, and the order with its command as the
record has them. What the real code decides is decided by it: settling an answer, judging a stream's update, applying a report. What
is around it (who reads when, what is committed together) is modelled as docs/architecture.md tells it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from domain.commands import Command, CommandKind, CommandState
from domain.events import Event, EventType, Source, advance, fold
from domain.lifecycle import TERMINAL, UNSENT, OrderState
from domain.orders import Order, OrderType, Product, Side, Validity
from domain.outcomes import Accepted, BookRow, Fill, NotSent, Outcome, Refused, Unknown
from pipeline.batch import Batch
from pipeline.reports import ABSENT, _apply, late_answers, to_body
from pipeline.stages.persist import LEASE_OVER, settle
from pipeline.updates import Judged, Update
from pipeline.wayback import WayBack
from store.reports import Report
from store.stream_updates import Known

NOW = datetime(2026, 11, 23, 5, 0, tzinfo=UTC)
TAG, BROKER, ACCOUNT, BROKER_ORDER_ID = "OC00000000000000001", "upstox", "A1", "B1"
QUANTITY = 10
# What may become of it at the broker, with the quantity of a fill; as often as it is listed.
STEPS = [
    *(("trigger", 0), ("open", 0), ("open", 0), ("interim", 0), ("cancel", 0), ("reject", 0), ("expire", 0)),
    *(("fill", quantity) for quantity in (1, 3, 4, 7, 10, 10)),
]
FATES = st.sampled_from(["taken", "taken", "taken", "not taken", "unknown"])
ANSWERS = st.sampled_from(["told", "told", "lost", "told as a refusal"])
ENDED = (OrderState.FILLED, OrderState.CANCELLED, OrderState.REJECTED, OrderState.EXPIRED)


def a_new_order() -> Order:
    return Order(
        id="01900000-0000-7000-8000-000000000000",
        intent_id="0190",
        line=0,
        correlation_id="c",
        user_id="u",
        instrument="NSE:INFY",
        side=Side.BUY,
        quantity=QUANTITY,
        product=Product.CNC,
        order_type=OrderType.SL,
        validity=Validity.DAY,
        price=Decimal("1500.00"),
        trigger_price=Decimal("1490.00"),
        broker=BROKER,
        account_id=ACCOUNT,
        broker_tag=TAG,
        state=OrderState.RECEIVED,
        accepted_at=NOW,
        send_before=NOW + timedelta(minutes=2),
    )


def a_new_command() -> Command:
    stage = f"dispatch.{BROKER}"
    return Command(
        order_id="0190", seq=0, kind=CommandKind.PLACE, stage=stage, state=CommandState.READY, due_at=NOW, fence=0
    )


@dataclass
class Record:
    """What is committed of one order."""

    order: Order
    command: Command
    events: list[Event]
    trades: dict[str, Fill]
    awaited: int = 0  # the filled quantity that a stream told of; 0: no trades are awaited

    @property
    def known(self) -> Known:
        order = self.order
        state, filled = order.state, order.filled_quantity
        return Known(order.id, TAG, order.account_id, order.broker_order_id, state, order.quantity, filled)

    @property
    def is_read(self) -> bool:
        """Whether its account's book is read: while it lives, or its trades are awaited."""
        return self.order.state not in TERMINAL or self.awaited > sum(fill.quantity for fill in self.trades.values())

    def copy(self) -> Record:
        return Record(replace(self.order), replace(self.command), list(self.events), dict(self.trades), self.awaited)

    def commit(self, batch: Batch) -> None:
        self.events.extend(batch.events)
        for _, fill in batch.fills:
            self.trades.setdefault(fill.trade_id, fill)


def a_record() -> Record:
    order = a_new_order()
    first = Event(order.id, 0, EventType.RECEIVED, None, OrderState.RECEIVED, Source.CLIENT, NOW, {})
    return Record(order, a_new_command(), [first], {})


class Broker:
    """The truth: each state the order went through, from the moment the broker took it."""

    def __init__(self) -> None:
        self.rows: list[BookRow] = []

    @property
    def is_over(self) -> bool:
        return bool(self.rows) and self.rows[-1].state in ENDED

    def take(self) -> None:
        assert not self.rows, "it was sent twice"
        self._show(OrderState.SUBMITTED, "put order req received", ())

    def move(self, step: str, quantity: int) -> None:
        last = self.rows[-1]
        fills = last.fills
        match step:
            case "trigger" if last.state is OrderState.SUBMITTED:
                self._show(OrderState.TRIGGER_PENDING, "trigger pending", fills)
            case "open" if not fills:
                self._show(OrderState.OPEN, "open", fills)
            case "interim":
                self._show(None, "modify pending", fills)
            case "fill":
                left = QUANTITY - sum(fill.quantity for fill in fills)
                fill = Fill(f"T{len(fills)}", "NSE", min(left, quantity), Decimal(1500 + len(fills)), NOW)
                done = fill.quantity == left
                self._show(OrderState.FILLED if done else OrderState.PARTIALLY_FILLED, "open", (*fills, fill))
            case "cancel":
                self._show(OrderState.CANCELLED, "cancelled", fills, "by the exchange")
            case "reject" if not fills:
                self._show(OrderState.REJECTED, "rejected", fills, "RMS: margin")
            case "expire":
                self._show(OrderState.EXPIRED, "cancelled", fills, "the day is over")

    def pass_interim(self) -> None:
        """An interim word says nothing of the state, and doesn't last: the one before it is shown again."""
        told = [row for row in self.rows if row.state is not None]
        if self.rows and self.rows[-1].state is None and told:
            last = told[-1]
            assert last.state is not None
            self._show(last.state, last.status, self.rows[-1].fills)

    def _show(self, state: OrderState | None, status: str, fills: tuple[Fill, ...], message: str | None = None) -> None:
        filled = sum(fill.quantity for fill in fills)
        average = sum((fill.price * fill.quantity for fill in fills), Decimal(0)) / filled if filled else None
        self.rows.append(
            BookRow(
                BROKER_ORDER_ID,
                TAG,
                state,
                status,
                QUANTITY,
                filled,
                None if average is None else average.quantize(Decimal("0.0001")),
                message=message,
                at=NOW + timedelta(seconds=len(self.rows)),
                fills=fills,
            )
        )


class Lifecycle(RuleBasedStateMachine):
    @initialize(seen_by=st.sampled_from([{"book", "stream"}, {"book"}, {"stream"}]), fate=FATES, answer=ANSWERS)
    def begin(self, seen_by: set[str], fate: str, answer: str) -> None:
        self.seen_by = seen_by  # until the end, when the book is read in any case, if anybody would read it
        self.record, self.broker, self.way = a_record(), Broker(), WayBack()
        self.inbox: dict[bytes, Report] = {}
        self.unapplied: list[bytes] = []
        self.pending: tuple[int, Outcome] | None = None  # the answer under way: of which attempt, and what it says
        self.open_calls: set[int] = set()  # attempts of which nobody knows yet whether the broker takes them
        self.reads: list[BookRow] = []  # books that were read and not yet written down
        self.before = replace(self.record.order)
        self.send(fate, answer)

    @precondition(lambda self: not self.broker.rows or not self.record.is_read)
    @rule()
    def wait(self) -> None:
        """Time alone changes nothing."""

    # The call and its answer

    @precondition(lambda self: self.record.command.state is CommandState.READY and self.pending is None)
    @rule(fate=FATES, answer=ANSWERS)
    def send(self, fate: str, answer: str) -> None:
        """T1, and the bytes. A told answer is true; a lost one tells nothing."""
        order, command = self.record.order, self.record.command
        assert order.state in UNSENT
        assert not self.broker.rows, "what the broker has is about to be sent again"
        command.fence += 1
        command.state = CommandState.SENDING
        self.record.events.append(
            advance(order, EventType.SENDING, Source.PIPELINE, NOW, state=OrderState.SENDING, because={})
        )
        if fate == "taken":
            self.broker.take()
        if fate == "unknown":
            self.open_calls.add(command.fence)
        if answer == "told" and fate == "taken":
            self.pending = (command.fence, Accepted(BROKER_ORDER_ID))
        elif answer == "told" and fate == "not taken":
            self.pending = (command.fence, NotSent("no connection"))
        elif answer == "told as a refusal" and fate == "not taken":
            self.pending = (command.fence, Refused("X", "no"))
        else:
            self.pending = (command.fence, Unknown("reset"))

    @precondition(lambda self: self.pending is not None)
    @rule(crash=st.booleans())
    def hear_the_answer(self, crash: bool) -> None:
        """T2: in time or after the lease. A crash before its commit loses the answer."""
        assert self.pending is not None
        (fence, outcome), self.pending = self.pending, None
        if crash:
            return
        command = self.record.command
        tells = not isinstance(outcome, Unknown)
        if command.fence == fence and (
            command.state is CommandState.SENDING or (command.state is CommandState.UNKNOWN and tells)
        ):
            self._commit(lambda order, command, batch: settle(order, command, outcome, batch, self.way))
        elif isinstance(outcome, Accepted):
            self._tell(late_answers([(self.record.order.id, outcome.broker_order_id)]))

    @precondition(lambda self: self.record.command.state is CommandState.SENDING)
    @rule()
    def end_the_lease(self) -> None:
        self._commit(lambda order, command, batch: settle(order, command, LEASE_OVER, batch, self.way))

    @precondition(lambda self: self.open_calls and not self.broker.rows)
    @rule()
    def take_late(self) -> None:
        self.open_calls.clear()
        self.broker.take()

    @precondition(lambda self: self.record.command.state is CommandState.UNKNOWN and not self.broker.rows)
    @rule()
    def prove_absent(self) -> None:
        """Two clean reads, long enough after the call that the broker takes it no more."""
        self.open_calls.clear()
        fence = self.record.command.fence
        if self.pending is None or isinstance(self.pending[1], Unknown):
            self._tell([Report(self.record.order.id, Source.EVIDENCE, {ABSENT: fence, "account": ACCOUNT})])

    # What becomes of it at the broker, and who sees it

    @precondition(lambda self: self.broker.rows and not self.broker.is_over)
    @rule(steps=st.lists(st.sampled_from(STEPS), min_size=1, max_size=4))
    def move(self, steps: list[tuple[str, int]]) -> None:
        for step, quantity in steps:
            if not self.broker.is_over:
                self.broker.move(step, quantity)

    @precondition(lambda self: "book" in self.seen_by and self.broker.rows and self.record.is_read)
    @rule()
    def read_the_book(self) -> None:
        """Woken by the sweep, a postback, a stream's hint or a connection: all the same."""
        self.reads.append(self.broker.rows[-1])

    @precondition(lambda self: self.reads)
    @rule(data=st.data())
    def write_a_read_down(self, data: st.DataObject) -> None:
        """Whoever reads may be slow: another process has read and written meanwhile, or it dies with what it read."""
        row = self.reads.pop(data.draw(st.integers(0, len(self.reads) - 1)))
        if data.draw(st.booleans(), label="lives"):
            self._tell([Report(self.record.order.id, Source.POLL, to_body(row, ACCOUNT, BROKER))])

    @precondition(lambda self: "stream" in self.seen_by and self.broker.rows)
    @rule(data=st.data())
    def hear_the_stream(self, data: st.DataObject) -> None:
        """Any frame there was: late, again, out of order; those that are never drawn are the missing ones."""
        newest = len(self.broker.rows) - 1
        row = self.broker.rows[newest - data.draw(st.integers(0, newest), label="frame, from the newest")]
        if data.draw(st.booleans(), label="without a tag"):
            row = replace(row, tag=None)
        known = self.record.known
        joined = known if row.tag is not None or known.broker_order_id is not None else None
        judged = Judged()
        judged.add(Update(ACCOUNT, replace(row, fills=())), BROKER, joined, "OC")
        assert judged.reports or judged.hints or known.broker_order_id is not None or known.state is OrderState.SENDING
        self._tell(judged.reports)
        for _, filled in judged.fills.values():
            self.record.awaited = max(self.record.awaited, filled)

    # The inbox

    def _tell(self, told: list[Report]) -> None:
        for report in told:
            if report.digest not in self.inbox:
                self.inbox[report.digest] = report
                self.unapplied.append(report.digest)

    @precondition(lambda self: self.unapplied)
    @rule(data=st.data(), crash=st.booleans())
    def apply_some(self, data: st.DataObject, crash: bool) -> None:
        """In any order; a crash before the commit leaves all of it for another process."""
        some = data.draw(st.lists(st.sampled_from(self.unapplied), min_size=1, unique=True), label="applied")
        self._apply(some, crash=crash)

    @precondition(lambda self: len(self.inbox) > len(self.unapplied))
    @rule(data=st.data())
    def deliver_again(self, data: st.DataObject) -> None:
        applied = sorted(self.inbox.keys() - set(self.unapplied))
        self._apply([data.draw(st.sampled_from(applied), label="again")])

    def _apply(self, digests: list[bytes], *, crash: bool = False) -> None:
        def apply(order: Order, command: Command, batch: Batch) -> None:
            for digest in digests:
                report = self.inbox[digest]
                _apply(order, command, report.source, report.body, batch, self.way)

        self._commit(apply, crash=crash)
        if not crash:
            self.unapplied = [digest for digest in self.unapplied if digest not in digests]

    def _commit(self, change, *, crash: bool = False) -> None:  # type: ignore[no-untyped-def]
        record = self.record.copy()
        batch = Batch(at=NOW)
        batch.hold(record.order)
        change(record.order, record.command, batch)
        record.commit(batch)
        if not crash:
            self.record = record

    # What holds at every moment, and at the end

    @invariant()
    def what_was_filled_or_ended_stays(self) -> None:
        before, now = self.before, self.record.order
        assert now.filled_quantity >= before.filled_quantity
        assert now.filled_quantity <= (self.broker.rows[-1].filled_quantity if self.broker.rows else 0)
        assert before.state not in TERMINAL or now.state is before.state
        assert before.broker_order_id in (None, now.broker_order_id)
        self.before = replace(now)

    @invariant()
    def the_events_fold_to_the_order(self) -> None:
        told = [(e.seq, e.event_type, e.prev_state, e.new_state, e.detail) for e in self.record.events]
        folded = fold(told)  # type: ignore[arg-type]
        for name in ("state", "last_seq", "filled_quantity", "average_price", "broker_order_id", "reason_code"):
            assert folded[name] == getattr(self.record.order, name), name

    @invariant()
    def what_the_broker_has_is_never_ready_to_go_out_once_that_is_known(self) -> None:
        if self.record.order.broker_order_id is not None:
            assert self.record.command.state is not CommandState.READY

    def teardown(self) -> None:
        """Everything that is under way comes to its end; then it is as if nothing had ever gone wrong."""
        if not hasattr(self, "record"):
            return
        if self.pending is not None:
            self.hear_the_answer(crash=False)
        if self.record.command.state is CommandState.SENDING:
            self.end_the_lease()
        self.broker.pass_interim()
        for _ in range(3):
            for row in self.reads:
                self._tell([Report(self.record.order.id, Source.POLL, to_body(row, ACCOUNT, BROKER))])
            self.reads = [self.broker.rows[-1]] if self.broker.rows and self.record.is_read else []
            if self.unapplied:
                self._apply(list(self.unapplied))
            self.what_was_filled_or_ended_stays()
        self.the_events_fold_to_the_order()
        order, command = self.record.order, self.record.command
        if not self.broker.rows:
            assert order.state in (OrderState.RECEIVED, OrderState.UNKNOWN, OrderState.REJECTED)
            assert not self.record.trades
            return
        clean = clean_run(self.broker.rows)
        for name in ("state", "filled_quantity", "average_price", "broker_order_id", "reason_code", "reason"):
            assert getattr(order, name) == getattr(clean.order, name), name
        assert command.state is clean.command.state is CommandState.DONE
        assert self.record.trades == clean.trades
        assert not self.record.is_read or order.state not in TERMINAL


def clean_run(rows: list[BookRow]) -> Record:
    """The same life with one call, its answer, and a poll of each state in turn."""
    record = a_record()
    record.command.fence, record.command.state = 1, CommandState.SENDING
    advance(record.order, EventType.SENDING, Source.PIPELINE, NOW, state=OrderState.SENDING)
    batch = Batch(at=NOW)
    batch.hold(record.order)
    settle(record.order, record.command, Accepted(BROKER_ORDER_ID), batch, WayBack())
    for row in rows:
        _apply(record.order, record.command, Source.POLL, to_body(row, ACCOUNT, BROKER), batch, WayBack())
    record.commit(batch)
    return record


TestLifecycle = Lifecycle.TestCase
TestLifecycle.settings = settings(max_examples=200, stateful_step_count=30, deadline=None)
