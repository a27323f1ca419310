"""Cancel against place: asked for at any moment of a placement's way, at a broker that loses answers; its book is the judge.

Each seed places forty orders at once and lets the stages run in any order. Between any two steps of theirs, within their
transactions and around their calls, cancels of random orders are accepted beside them. `pytest -m long` runs a thousand.
"""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from house import BookedBroker, House, utc_now
from works import Works

from brokers.base import Line, Session
from domain.lifecycle import TERMINAL, OrderState
from domain.outcomes import Accepted, BookRow, Fill, NotSent, Outcome, Refused, Unknown
from pipeline import books, calls, pump, reports, settling, stage, verify
from pipeline.stages import change

ORDERS, LONG_SEEDS = 40, range(100, 125)
LOST = Unknown("no whole answer in time")
MODULES = (stage, pump, calls, settling, change, reports, books)
STEPS = 60


class RacingBroker(BookedBroker):
    """Takes, loses, fills and refuses by lot. What its book shows is what is true."""

    def __init__(self, lots: random.Random) -> None:
        super().__init__()
        self.lots = lots

    def place(
        self, session: Session, lines: Sequence[Line], *, timeout_s: float, send_by: float | None = None
    ) -> Sequence[Outcome]:
        return [self._take(session, line) for line in lines]

    def _take(self, session: Session, line: Line) -> Outcome:
        broker_order_id = f"B-{line.order.broker_tag}"
        match self.lots.choices(("took", "took, lost", "lost", "not sent", "refused"), (60, 12, 8, 12, 8))[0]:
            case "took":
                self.rest(session.account_id, line)
                return Accepted(broker_order_id)
            case "took, lost":
                self.rest(session.account_id, line)
                return LOST
            case "lost":
                return LOST
            case "not sent":
                return NotSent("the connection was refused")
        return Refused("NO", "not this one")

    def cancel(
        self, session: Session, broker_order_id: str, *, timeout_s: float, send_by: float | None = None
    ) -> Outcome:
        self.cancels.append(broker_order_id)
        if self.lots.random() < 0.15:
            self.trade(broker_order_id)
        match self.lots.choices(("done", "done, lost", "lost", "not sent", "refused"), (60, 12, 10, 10, 8))[0]:
            case "lost":
                return LOST
            case "not sent":
                return NotSent("the connection was refused")
            case "refused":
                return Refused("NO", "not now")
            case how:
                is_live = self._move(broker_order_id, state=OrderState.CANCELLED, status="cancelled")
        answer: Outcome = Accepted(broker_order_id) if is_live else Refused("OVER", "it is over")
        return LOST if how == "done, lost" else answer

    def trade(self, broker_order_id: str) -> None:
        """Fill a live order, in part or to its end."""
        row = self.row(broker_order_id)
        filled = self.lots.choice((row.quantity, row.quantity, 4)) if row.filled_quantity == 0 else row.quantity
        fill = Fill(f"T{filled}-{broker_order_id}", "NSE", filled - row.filled_quantity, Decimal(1500), utc_now())
        self._move(
            broker_order_id,
            state=OrderState.FILLED if filled == row.quantity else OrderState.PARTIALLY_FILLED,
            status="traded",
            filled_quantity=filled,
            average_price=Decimal(1500),
            fills=(*row.fills, fill),
        )

    def _move(self, broker_order_id: str, **figures: Any) -> bool:
        with self._booking:
            for account, book in self.books.items():
                for number, row in enumerate(book):  # type: ignore[arg-type]
                    if row.broker_order_id == broker_order_id and row.state not in TERMINAL:
                        self.books[account] = [*book[:number], replace(row, **figures), *book[number + 1 :]]  # type: ignore[index]
                        return True
        return False

    def shown(self) -> list[BookRow]:
        with self._booking:
            return [row for book in self.books.values() for row in book]  # type: ignore[union-attr]


class Callers:
    """Accepts cancels of random orders on threads of its own, whenever the engine passes a point where it may be interrupted."""

    def __init__(self, works: Works, ids: Sequence[str], lots: random.Random) -> None:
        self._works, self._ids, self._lots = works, list(ids), lots
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(3)
        self.asked: list[Future[Any]] = []

    def pass_point(self, _name: str) -> None:
        with self._lock:
            if self._ids and self._lots.random() < 0.06:
                some = [self._ids.pop(self._lots.randrange(len(self._ids))) for _ in range(min(2, len(self._ids)))]
                self.asked.append(self._pool.submit(self._works.cancel, *some))

    def finish(self) -> None:
        """Those that nobody has cancelled yet are, but for a few."""
        with self._lock:
            for order_id in self._ids[: len(self._ids) * 3 // 4]:
                self.asked.append(self._pool.submit(self._works.cancel, order_id))
            self._ids.clear()
        wait(self.asked)
        self._pool.shutdown()
        for asked in self.asked:
            asked.result()


@pytest.fixture
def race(house: House, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Works:
    lots = random.Random(request.param)
    broker = RacingBroker(lots)
    works = Works(house, broker)
    ids = works.received(20) + works.received(20, account="FK0002")
    callers = Callers(works, ids, lots)
    for module in MODULES:
        monkeypatch.setattr(module, "crash", callers.pass_point)
    parts = works.parts()
    for _ in range(STEPS):
        lots.choice(parts)()
        if (row := lots.choice(broker.shown() or [None])) is not None and lots.random() < 0.2:
            broker.trade(row.broker_order_id)
        works.ahead += timedelta(milliseconds=lots.randrange(3_000))
        judge_meanwhile(works, broker)
    callers.finish()
    return works


def judge_meanwhile(works: Works, broker: RacingBroker) -> None:
    """Whoever is told that an order is cancelled finds nothing of it live at the broker."""
    told = {row[0]: row[1] for row in works.house.rows("select broker_tag, id from orders where state = 'CANCELLED'")}
    for row in broker.shown():
        assert row.tag not in told or row.state in TERMINAL, f"order {told[row.tag or '']} is told cancelled, and lives"


def judge(works: Works) -> None:
    house, broker = works.house, works.broker
    assert isinstance(broker, RacingBroker)
    works.settle()
    judge_meanwhile(works, broker)
    shown = {row.tag: row for row in broker.shown()}
    assert max(Counter(row.tag for row in broker.shown()).values()) == 1, "nothing is sent twice"
    for tag, state, filled in house.rows("select broker_tag, state, filled_quantity from orders"):
        row = shown.get(tag)
        assert filled == (row.filled_quantity if row is not None else 0), tag
        if row is not None and row.state in TERMINAL:
            assert state == row.state, tag
        elif row is None:
            assert state in ("CANCELLED", "REJECTED"), tag
    for tag, result, state in house.rows(
        "select o.broker_tag, c.result, o.state from changes c join orders o on o.id = c.order_id"
    ):
        assert result is not None
        live = tag in shown and shown[tag].state not in TERMINAL
        assert live is (result == "REFUSED" and state not in TERMINAL), (tag, result, state)
        assert result != "CANCELLED" or state == "CANCELLED"
        assert result != "FILLED" or shown[tag].state is OrderState.FILLED
    assert verify.verify(works.desk, queues=False).breaches == []
    house.check()


@pytest.mark.parametrize("race", [1, 2, 3], indirect=True)
def test_a_cancel_never_tells_what_the_book_does_not_show(race: Works) -> None:
    judge(race)


@pytest.mark.long
@pytest.mark.parametrize("race", LONG_SEEDS, indirect=True)
def test_a_cancel_never_tells_what_the_book_does_not_show_a_thousand_times(race: Works) -> None:
    judge(race)
