"""A broker with a book, behind the interface that every adapter offers: what it does is drawn, what it did is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING

from brokers.base import Line, Session
from domain.capabilities import Capabilities, Window
from domain.evidence import book_day
from domain.lifecycle import OrderState
from domain.orders import OrderType, Product, Validity
from domain.outcomes import Accepted, BookRow, Fill, NotSent, Outcome, Refused, Unknown, Unreadable

if TYPE_CHECKING:
    from .world import World

# How the exchange ends an order, and how often of ten; OPEN rests until the troubles are over.
_ENDS = {OrderState.FILLED: 7, OrderState.CANCELLED: 1, OrderState.REJECTED: 1, OrderState.OPEN: 1}


@dataclass(eq=False, slots=True)
class Entry:
    """An order in the broker's book. `is_double` marks one that the broker made of its own."""

    id: str
    tag: str
    account_id: str
    quantity: int
    price: Decimal
    taken_at: datetime
    shows_at: float
    is_double: bool
    state: OrderState | None = None
    filled: int = 0
    fills: list[Fill] = field(default_factory=list)
    ends: OrderState = OrderState.FILLED
    times_shown: int = 0

    @property
    def is_over(self) -> bool:
        return self.state in (OrderState.FILLED, OrderState.CANCELLED, OrderState.REJECTED, OrderState.EXPIRED)

    @property
    def lives_or_filled(self) -> bool:
        return self.filled > 0 or not self.is_over


@dataclass(eq=False, slots=True)
class Request:
    """One line of one call, as it left: whether the broker takes it is settled then, though it may come later."""

    tag: str
    fate: str

    @property
    def is_taken(self) -> bool:
        return self.fate in ("lost", "late", "doubled", "taken")


class SimulatedBroker:
    """Stands for an adapter and for the broker behind it."""

    def __init__(self, world: World, name: str) -> None:
        plan = world.plan
        self.world, self.name = world, name
        self.entries: list[Entry] = []
        self.arrivals: dict[str, list[float]] = {}  # order calls, by account
        self.capabilities = Capabilities(
            broker=name,
            exchanges=frozenset({"NSE"}),
            products=frozenset(Product),
            order_types=frozenset(OrderType),
            validities=frozenset(Validity),
            lines_per_call=plan.lines_per_call,
            call_slots=3,
            order_windows=(Window(seconds=1, count=plan.orders_per_s), Window(seconds=60, count=60)),
            read_windows=(Window(seconds=1, count=10),),
        )

    # ---- the adapter's side

    def place(
        self, session: Session, lines: Sequence[Line], *, timeout_s: float, send_by: float | None = None
    ) -> Sequence[Outcome]:
        world, rng, loop = self.world, self.world.rng, self.world.loop
        loop.sleep(rng.uniform(0.001, 0.01))  # the connection is opened
        if self._is_away():
            return [NotSent("connection refused") for _ in lines]
        if send_by is not None and loop.now >= send_by and world.plan.checks_lease:
            return [NotSent("the lease was over before the call was sent") for _ in lines]
        self.arrivals.setdefault(session.account_id, []).extend(loop.now for _ in lines)
        if self._is_dead():
            loop.sleep(0.02)
            return [NotSent("the session is dead", session_dead=True) for _ in lines]
        # What becomes of each line is settled now, whether anybody waits for the answer or not.
        ends_s = rng.choice((0.05, timeout_s))  # a reset, or a timeout
        answers = [self._take(session.account_id, line, ends_s) for line in lines]
        if any(isinstance(answer, Unknown) for answer in answers):
            answers = [Unknown("read timeout") for _ in lines]  # one call has one answer
            loop.sleep(ends_s)
        else:
            loop.sleep(rng.uniform(0.01, 0.3))
        return answers

    def book(self, session: Session, *, timeout_s: float) -> Sequence[BookRow] | Unreadable:
        world, rng, loop = self.world, self.world.rng, self.world.loop
        loop.sleep(rng.uniform(0.005, 0.1))
        if self._is_dead():
            return Unreadable("the session is dead", session_dead=True)
        if self._is_away() or (not world.is_quiet and rng.random() < world.chances.unreadable):
            return Unreadable("timeout")
        shown = [entry for entry in self.entries if self._shows(entry, session.account_id)]
        for entry in shown:
            entry.times_shown += 1
        rows = [self._shown(entry) for entry in shown]
        if rows and rng.random() < world.chances.repeats_row:
            rows.insert(rng.randrange(len(rows) + 1), rng.choice(rows))
        loop.sleep(rng.uniform(0.005, 0.1))
        world.note("book", self.name, session.account_id, len(rows))
        return rows

    def cancel(
        self, session: Session, broker_order_id: str, *, timeout_s: float, send_by: float | None = None
    ) -> Outcome:
        self.arrivals.setdefault(session.account_id, []).append(self.world.loop.now)
        for entry in self.entries:
            if entry.id == broker_order_id and not entry.is_over:
                entry.state = OrderState.CANCELLED
                self.world.note("cancelled", entry.id)
        self.world.loop.sleep(0.05)
        return Accepted(broker_order_id)

    # ---- the broker's side

    def _take(self, account_id: str, line: Line, ends_s: float) -> Outcome:
        """What becomes of a line whose call, should its answer be lost, ends in so many seconds."""
        world, rng, chances = self.world, self.world.rng, self.world.chances
        order = line.order
        fate = _drawn(
            rng.random(),
            refused=chances.refuses,
            not_sent=chances.not_sent,
            lost=chances.answer_lost,
            late=chances.late,
            vanishes=chances.vanishes,
            doubled=chances.doubles,
        )
        world.requests.setdefault(order.broker_tag, []).append(Request(order.broker_tag, fate))
        world.note("asked", self.name, account_id, order.broker_tag, fate)
        if fate == "refused":
            return Refused("MARGIN", "not enough margin")
        if fate == "not_sent":
            return NotSent("too many requests", retry_after_s=rng.choice((None, 0.5, 2.0)))
        if fate == "vanishes":
            return Unknown("read timeout")
        if fate == "late":
            delay_s = rng.uniform(0, ends_s + world.plan.latest_acceptance_s)
            world.loop.at(world.loop.now + delay_s, lambda: self._accept(account_id, line))
            return Unknown("read timeout")
        entry = self._accept(account_id, line)
        if fate == "doubled":
            self._accept(account_id, line, is_double=True)
        return Unknown("connection reset") if fate == "lost" else Accepted(entry.id)

    def _accept(self, account_id: str, line: Line, *, is_double: bool = False) -> Entry:
        world, rng, order = self.world, self.world.rng, line.order
        number = world.next_number()
        shows_at = world.loop.now + rng.choice((0.0, rng.uniform(0, world.plan.visibility_s)))
        price = Decimal("1500.00")
        entry = Entry(
            f"{self.name[0].upper()}{number}", order.broker_tag, account_id, order.quantity, price,
            world.clock(), shows_at, is_double, ends=rng.choices(tuple(_ENDS), tuple(_ENDS.values()))[0],
        )  # fmt: skip
        self.entries.append(entry)
        world.note("taken", entry.id, entry.tag, "double" if is_double else "")
        self._live(entry, rng.uniform(0, 2))
        return entry

    def _live(self, entry: Entry, after_s: float) -> None:
        self.world.loop.at(self.world.loop.now + after_s, lambda: self._move(entry))

    def _move(self, entry: Entry) -> None:
        """The exchange: it opens, fills in parts, and ends as it will; all of it ends when the troubles do."""
        rng, world = self.world.rng, self.world
        if entry.is_over or book_day(entry.taken_at) != book_day(world.clock()):
            return
        if entry.ends is OrderState.REJECTED and entry.filled == 0:
            entry.state = OrderState.REJECTED
            return
        if entry.state is None:
            entry.state = OrderState.OPEN
        elif entry.ends is OrderState.FILLED or rng.random() < 0.4:
            self._fill(entry, rng.randint(1, entry.quantity - entry.filled))
        elif entry.ends is not OrderState.OPEN or world.is_quiet:
            entry.state = OrderState.CANCELLED
        if not entry.is_over:
            self._live(entry, rng.uniform(0.1, 3))

    def _fill(self, entry: Entry, quantity: int) -> None:
        entry.filled += quantity
        number = self.world.next_number()
        entry.fills.append(Fill(f"T{number}", "NSE", quantity, entry.price, self.world.clock()))
        if entry.filled == entry.quantity:
            entry.state = OrderState.FILLED

    def _shows(self, entry: Entry, account_id: str) -> bool:
        is_todays = book_day(entry.taken_at) == book_day(self.world.clock())
        return entry.account_id == account_id and entry.shows_at <= self.world.loop.now and is_todays

    @staticmethod
    def _shown(entry: Entry) -> BookRow:
        return BookRow(
            broker_order_id=entry.id,
            tag=entry.tag,
            state=entry.state,
            status=entry.state or "put order req received",
            quantity=entry.quantity,
            filled_quantity=entry.filled,
            average_price=entry.price if entry.filled else None,
            fills=tuple(entry.fills),
        )

    def _is_away(self) -> bool:
        return self.world.is_in(self.world.plan.broker_away)

    def _is_dead(self) -> bool:
        return self.world.is_in(self.world.plan.session_dead)


def _drawn(number: float, **chances: float) -> str:
    for name, chance in chances.items():
        number -= chance
        if number < 0:
            return name
    return "taken"
