"""The reconciler against the simulated exchange at its worst: late, repeated, out of order, and nothing pushed."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from house import ACCOUNTS, BROKER, House, intake_engine

from brokers import registry
from brokers.base import Adapter, Session
from brokers.simulator.server import SimulatorServer
from domain.market import IST
from domain.outcomes import BookRow, Unreadable
from domain.reference import cash_instruments
from pipeline import dayends
from pipeline.desk import Desk
from pipeline.reconcile import Reconciler
from pipeline.reports import apply_due

INFY = next(instrument for instrument in cash_instruments() if instrument.key == "NSE:INFY")
LATE_S = 3
LAG = timedelta(seconds=10)
MINUTE = timedelta(seconds=60)
CROSSING = {"price": str(INFY.close)}
RESTING = {"price": str(INFY.close - 100 * INFY.tick)}


class Disorder:
    """The adapter of a broker whose book is a heap: rows in any order, each fill twice and anywhere."""

    def __init__(self, adapter: Adapter, seed: int) -> None:
        self._adapter, self._random = adapter, random.Random(seed)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._adapter, name)

    def book(self, session: Session, *, timeout_s: float) -> Sequence[BookRow] | Unreadable:
        book = self._adapter.book(session, timeout_s=timeout_s)
        if isinstance(book, Unreadable):
            return book
        heap = [replace(row, fills=tuple(self._random.sample(row.fills * 2, 2 * len(row.fills)))) for row in book]
        self._random.shuffle(heap)
        return heap


class Exchange:
    """A house whose broker is the simulated exchange, and clocks on both sides that a test moves together."""

    def __init__(self, house: House, simulator: SimulatorServer, facade: str) -> None:
        self.house, self.simulator = house, simulator
        account = ACCOUNTS[0]
        keys = {"api_key": account.api_key, "api_secret": account.api_secret, "access_token": account.access_token}
        simulator.control("POST", "/accounts", {"facade": facade, "user_id": account.id, **keys})
        house.run("update accounts set session = 'DEAD' where id <> %s", ACCOUNTS[0].id)
        make = registry.BROKERS[facade]({f"{facade.upper()}_BASE_URL": simulator.urls[facade]})
        assert make is not None
        self.ahead = timedelta()
        self.desk: Desk = house.desk()
        self.desk.adapters = {BROKER: Disorder(make, seed=13)}  # type: ignore[dict-item]
        real = self.desk.now
        self.desk.now = lambda: real() + self.ahead  # type: ignore[method-assign]
        self.reconciler = Reconciler(self.desk, BROKER)

    def move(self, by: timedelta) -> None:
        self.ahead += by
        self.simulator.control("PUT", "/clock", {"advance_s": by.total_seconds()})

    def sent(self, *terms: dict[str, Any]) -> list[str]:
        ids = [order_id for given in terms for order_id in self.house.accept_many(1, **given)]
        intake_engine(self.desk).run("validate")
        self.house.dispatcher(self.desk).pump()
        self.house.settled(ids)
        return ids

    def cycle(self) -> None:
        self.move(MINUTE)
        for _ in range(2):
            self.reconciler.run()
            apply_due(self.desk)
            self.move(LAG)

    def truth(self, order_id: str) -> dict[str, Any]:
        (order,) = self.simulator.control("GET", f"/orders?tag={self.house.order(order_id).broker_tag}")
        return order  # type: ignore[no-any-return]

    def assert_true(self, ids: Sequence[str]) -> None:
        """The record says of each order what the exchange knows, each trade once."""
        for order_id in ids:
            truth, order = self.truth(order_id), self.house.order(order_id)
            assert order.filled_quantity == sum(fill["quantity"] for fill in truth["fills"])
            assert self.house.rows("select trade_id from trades where order_id = %s order by 1", order_id) == sorted(
                (fill["trade_id"],) for fill in truth["fills"]
            )
        self.house.check()


@pytest.fixture(params=["upstox", "zerodha"])
def exchange(request: pytest.FixtureRequest, house: House, monkeypatch: pytest.MonkeyPatch) -> Iterator[Exchange]:
    half_a_day_away = datetime.now(IST) + timedelta(hours=12)
    monkeypatch.setattr(dayends, "SIM_DAY_ENDS", half_a_day_away.time().replace(second=0, microsecond=0))
    with SimulatorServer() as simulator:
        rules = {"rate_limits": False, "day_reset_ist": None, "partial_percent": 100, "step_delay_ms": 1, "fill_delay_ms": 1, "trade_gap_ms": 1}
        simulator.control("PUT", "/settings", rules)
        simulator.control("PUT", f"/prices/{INFY.key}", {"price": str(INFY.close)})
        yield Exchange(house, simulator, request.param)


def test_a_broker_that_is_late_repeats_itself_and_pushes_nothing_raises_no_false_alarm(exchange: Exchange):
    exchange.simulator.control("POST", "/faults", {"kind": "late_visibility", "endpoint": "place", "seconds": LATE_S, "count": None})
    exchange.simulator.control("POST", "/faults", {"kind": "duplicate_rows", "endpoint": "book", "count": None})
    ids = exchange.sent(CROSSING, RESTING, {**CROSSING, "quantity": 40}, {**CROSSING, "product": "MIS"})
    assert exchange.house.states(ids) == ["SUBMITTED"] * 4

    exchange.reconciler.run()  # while the exchange has filled them and the book doesn't show them
    apply_due(exchange.desk)
    exchange.move(LAG)
    exchange.cycle()

    assert exchange.house.states(ids) == ["FILLED", "OPEN", "FILLED", "FILLED"]
    exchange.assert_true(ids)
    sources = exchange.house.rows("select distinct source from order_events where new_state = 'FILLED'")
    assert sources == [("RECONCILE",)]
    exchange.cycle()
    assert exchange.house.rows("select kind, subject, ours, theirs from findings") == []
    assert exchange.house.rows("select * from strays") == []


def test_running_it_twice_against_the_exchange_changes_nothing(exchange: Exchange):
    ids = exchange.sent(CROSSING, RESTING)
    exchange.cycle()
    tables = ("orders", "order_events", "trades", "reports", "findings", "strays")
    before = [exchange.house.rows(f"select * from {table} order by 1, 2") for table in tables]  # noqa: S608

    exchange.cycle()

    assert [exchange.house.rows(f"select * from {table} order by 1, 2") for table in tables] == before  # noqa: S608
    exchange.assert_true(ids)


def test_what_the_market_does_between_two_cycles_is_mended_by_the_next(exchange: Exchange):
    filling, cancelled = exchange.sent(RESTING, RESTING)
    exchange.cycle()
    assert exchange.house.states([filling, cancelled]) == ["OPEN", "OPEN"]
    number = exchange.truth(filling)["order_id"]
    exchange.simulator.control("POST", "/fills", {"order_id": number, "quantity": 4})
    adapter, session = exchange.desk.adapters[BROKER], exchange.desk.session(ACCOUNTS[0].id)
    adapter.cancel(session, exchange.truth(cancelled)["order_id"], timeout_s=5)

    exchange.cycle()

    assert exchange.house.states([filling, cancelled]) == ["PARTIALLY_FILLED", "CANCELLED"]
    exchange.assert_true([filling, cancelled])
    assert exchange.house.rows("select * from findings") == []


def test_manual_trading_elsewhere_is_told_and_gone_when_it_is_undone(exchange: Exchange):
    exchange.cycle()
    adapter, session = exchange.desk.adapters[BROKER], exchange.desk.session(ACCOUNTS[0].id)
    for side, expected in (("BUY", [("POSITION", "NSE:INFY MIS", "+0", "+3")]), ("SELL", [])):
        _by_hand(adapter, session, side)
        exchange.move(timedelta(minutes=11))
        exchange.cycle()

        open_ones = "select kind, subject, ours, theirs from findings where gone_at is null"
        assert exchange.house.rows(open_ones) == expected


def _by_hand(adapter: Adapter, session: Session, side: str) -> None:
    """A market order of three that is none of ours: its tag has another form."""
    from brokers.base import Line
    from domain.ids import new_id
    from domain.orders import Order, OrderType, Product, Side, Validity

    now = datetime.now(IST)
    order = Order(
        id=new_id(), intent_id=new_id(), line=0, correlation_id="c", user_id=new_id(), instrument=INFY.key, side=Side(side),
        quantity=3, product=Product.MIS, order_type=OrderType.MARKET, validity=Validity.DAY, broker_tag="byhand",
        accepted_at=now, send_before=now,
    )  # fmt: skip
    adapter.place(session, [Line(order, INFY)], timeout_s=5)
