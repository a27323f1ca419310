"""What every adapter must do, over real HTTP against the simulated exchange behind its broker's dialect."""

from __future__ import annotations

import http.client
import itertools
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import loopback as far
import pytest
from given import an_order
from loopback import loopback
from own_valkey import own_valkey
from redis import Redis

from brokers import registry
from brokers.base import Adapter, Funds, Line, Payload, Session, Unsayable
from brokers.limits import RateBudget
from brokers.simulator.server import SimulatorServer
from domain import reference
from domain.instruments import Instrument, Kind
from domain.lifecycle import TERMINAL, OrderState
from domain.orders import OrderType, Product, Side, Validity
from domain.outcomes import Accepted, BookRow, NotSent, Outcome, Refused, Unknown, Unreadable

BROKERS = ("upstox", "zerodha")
INSTRUMENTS: Mapping[str, Instrument] = reference.all_instruments(datetime.now(UTC).date())
INFY = INSTRUMENTS["NSE:INFY"]
LIMIT_AWAY = INFY.close - 100 * INFY.tick  # rests below the market
TRIGGER = INFY.close + 50 * INFY.tick
_numbers = itertools.count(1)


@dataclass
class Desk:
    """An adapter, its account at the simulator, and the simulator's own view of what is true."""

    broker: str
    simulator: SimulatorServer
    adapter: Adapter = field(init=False)
    session: Session = field(init=False)

    def __post_init__(self) -> None:
        adapter = registry.BROKERS[self.broker]({f"{self.broker.upper()}_BASE_URL": self.simulator.urls[self.broker]})
        assert adapter is not None
        self.adapter = adapter
        (account,) = self.control("POST", "/accounts", {"facade": self.broker, "cash": 10_000_000})
        self.user_id = account["user_id"]
        self.session = Session(
            account["user_id"], self.broker, account["api_key"], account["api_secret"], account["access_token"], "SIM"
        )

    def control(self, method: str, path: str, body: Any = None) -> Any:
        return self.simulator.control(method, path, body)

    def fault(self, kind: str, endpoint: str = "*", **more: Any) -> None:
        self.control("POST", "/faults", {"kind": kind, "endpoint": endpoint, "account": self.user_id, **more})

    def line(self, instrument: Instrument = INFY, **given: Any) -> Line:
        terms = {"broker_tag": f"CF{next(_numbers):017d}", "price": LIMIT_AWAY, **given}
        return Line(an_order(instrument=instrument.key, **terms), instrument)

    def place(self, *lines: Line, timeout_s: float = 5.0, **more: Any) -> Sequence[Outcome]:
        return self.adapter.place(self.session, lines, timeout_s=timeout_s, **more)

    def accepted(self, **given: Any) -> tuple[Line, str]:
        line = self.line(**given)
        (outcome,) = self.place(line)
        assert isinstance(outcome, Accepted), outcome
        return line, outcome.broker_order_id

    def modify(self, line: Line, broker_order_id: str, *changed: str) -> Outcome:
        return self.adapter.modify(self.session, broker_order_id, line, changed=changed, timeout_s=5)

    def book(self) -> Sequence[BookRow]:
        book = self.adapter.book(self.session, timeout_s=5)
        assert not isinstance(book, Unreadable), book
        return book

    def row(self, line: Line, until: Callable[[BookRow], bool] = lambda row: True, within_s: float = 5.0) -> BookRow:
        """The order's row once it is as wanted; found by its tag, as evidence is."""
        deadline = time.monotonic() + within_s
        while True:
            rows = [row for row in self.book() if row.tag == line.order.broker_tag]
            if rows and until(rows[0]):
                return rows[0]
            assert time.monotonic() < deadline, rows

    def truth(self, line: Line) -> list[dict[str, Any]]:
        """What the simulated broker really has for the tag, shown or not."""
        return self.control("GET", f"/orders?tag={line.order.broker_tag}")

    def requests(self, *endpoints: str) -> int:
        rows = self.control("GET", "/requests")
        return sum(row["count"] for row in rows if row["account"] == self.user_id and row["endpoint"] in endpoints)


@pytest.fixture(scope="module")
def simulator() -> Iterator[SimulatorServer]:
    with SimulatorServer() as server:
        server.control("PUT", "/settings", {"rate_limits": False, "step_delay_ms": 1, "fill_delay_ms": 1})
        server.control("PUT", f"/prices/{INFY.key}", {"price": str(INFY.close)})
        yield server


@pytest.fixture(params=BROKERS)
def desk(request: pytest.FixtureRequest, simulator: SimulatorServer) -> Iterator[Desk]:
    yield Desk(request.param, simulator)
    simulator.control("POST", "/reset", {"what": ["faults"]})


@pytest.fixture
def upstox(simulator: SimulatorServer) -> Iterator[Desk]:
    yield Desk("upstox", simulator)
    simulator.control("POST", "/reset", {"what": ["faults"]})


def is_state(*states: OrderState) -> Callable[[BookRow], bool]:
    return lambda row: row.state in states


# ---- an order's life


def test_a_limit_order_rests_and_is_found_by_its_tag(desk: Desk):
    line, broker_order_id = desk.accepted(quantity=7)
    row = desk.row(line, is_state(OrderState.OPEN))

    assert (row.broker_order_id, row.quantity, row.filled_quantity) == (broker_order_id, 7, 0)
    assert (row.price, row.average_price, row.fills) == (LIMIT_AWAY, None, ())
    assert row.at is not None
    assert abs(row.at - datetime.now(UTC)) < timedelta(minutes=1)
    assert [order["order_id"] for order in desk.truth(line)] == [broker_order_id]


def test_a_market_order_fills_and_its_fills_add_up(desk: Desk):
    desk.control("PUT", "/settings", {"partial_percent": 100, "trade_gap_ms": 1})
    line, _ = desk.accepted(order_type=OrderType.MARKET, price=None, quantity=50)
    row = desk.row(line, is_state(OrderState.FILLED))
    (truth,) = desk.truth(line)

    assert row.filled_quantity == sum(fill.quantity for fill in row.fills) == 50
    assert len(row.fills) > 1
    assert [(fill.trade_id, fill.quantity, fill.price) for fill in row.fills] == [
        (fill["trade_id"], fill["quantity"], Decimal(fill["price"])) for fill in truth["fills"]
    ]
    assert {fill.exchange for fill in row.fills} == {"NSE"}
    assert all(abs(fill.at - datetime.now(UTC)) < timedelta(minutes=1) for fill in row.fills)
    assert row.average_price is not None
    assert abs(row.average_price - Decimal(truth["average_price"])) < Decimal("0.01")


def test_a_partial_fill_has_a_state_of_its_own(desk: Desk):
    line, broker_order_id = desk.accepted(quantity=10)
    desk.row(line, is_state(OrderState.OPEN))
    desk.control("POST", "/fills", {"order_id": broker_order_id, "quantity": 4})
    row = desk.row(line, is_state(OrderState.PARTIALLY_FILLED))

    assert (row.filled_quantity, [fill.quantity for fill in row.fills]) == (4, [4])
    assert desk.adapter.cancel(desk.session, broker_order_id, timeout_s=5) == Accepted(broker_order_id)
    row = desk.row(line, is_state(OrderState.CANCELLED))
    assert row.filled_quantity == 4


@pytest.mark.parametrize("order_type", [OrderType.SL, OrderType.SL_M])
def test_a_stop_order_waits_for_its_trigger(desk: Desk, order_type: OrderType):
    trigger = INFY.close + 50 * INFY.tick
    price = trigger + 10 * INFY.tick if order_type is OrderType.SL else None
    line, _ = desk.accepted(order_type=order_type, trigger_price=trigger, price=price)
    row = desk.row(line, is_state(OrderState.TRIGGER_PENDING))

    assert (row.trigger_price, row.price) == (trigger, price)


def test_a_cancel_ends_an_order_once(desk: Desk):
    line, broker_order_id = desk.accepted()
    desk.row(line, is_state(OrderState.OPEN))
    cancel = lambda: desk.adapter.cancel(desk.session, broker_order_id, timeout_s=5)  # noqa: E731

    assert cancel() == Accepted(broker_order_id)
    desk.row(line, is_state(OrderState.CANCELLED))
    assert isinstance(cancel(), Refused)


def test_a_cancel_of_an_unknown_order_cancels_nothing(desk: Desk):
    outcome = desk.adapter.cancel(desk.session, "999999999999999", timeout_s=5)

    assert isinstance(outcome, Refused | Unknown)


def test_a_modify_changes_the_terms_and_keeps_the_id(desk: Desk):
    line, broker_order_id = desk.accepted(quantity=10)
    desk.row(line, is_state(OrderState.OPEN))
    line.order.price, line.order.quantity = LIMIT_AWAY - INFY.tick, 12

    assert desk.modify(line, broker_order_id, "price", "quantity") == Accepted(broker_order_id)
    row = desk.row(line, lambda row: row.state is OrderState.OPEN and row.quantity == 12)
    assert (row.broker_order_id, row.price) == (broker_order_id, LIMIT_AWAY - INFY.tick)


# Terms that an order of 20 at LIMIT_AWAY gets, and what of it no modify named stays.
@pytest.mark.parametrize(
    ("terms", "shown"),
    [
        ({"price": LIMIT_AWAY - INFY.tick}, {"price": LIMIT_AWAY - INFY.tick, "quantity": 20}),
        ({"quantity": 30}, {"quantity": 30, "price": LIMIT_AWAY}),
        ({"disclosed_quantity": 10}, {"disclosed_quantity": 10, "quantity": 20, "price": LIMIT_AWAY}),
        (
            {"order_type": OrderType.SL, "trigger_price": TRIGGER, "price": TRIGGER + INFY.tick},
            {"order_type": OrderType.SL, "trigger_price": TRIGGER, "price": TRIGGER + INFY.tick, "quantity": 20},
        ),
        (
            {"order_type": OrderType.SL_M, "trigger_price": TRIGGER, "price": None},
            {"order_type": OrderType.SL_M, "trigger_price": TRIGGER, "price": None, "quantity": 20},
        ),
    ],
    ids=lambda value: "-".join(sorted(value)),
)
def test_only_what_a_modify_names_changes(desk: Desk, terms: dict[str, Any], shown: dict[str, Any]):
    line, broker_order_id = desk.accepted(quantity=20)
    desk.row(line, is_state(OrderState.OPEN))
    for name, value in terms.items():
        setattr(line.order, name, value)
    # What hasn't changed is not what the broker has: were it sent, it would show.
    for name in {"quantity", "disclosed_quantity"} - terms.keys():
        setattr(line.order, name, 40)

    assert desk.modify(line, broker_order_id, *terms) == Accepted(broker_order_id)
    row = desk.row(line, lambda row: row.state is not None and all(getattr(row, name) == of for name, of in terms.items()))
    assert {name: getattr(row, name) for name in shown} == shown
    assert row.validity is Validity.DAY


def test_a_modify_of_a_filled_order_is_refused(desk: Desk):
    line, broker_order_id = desk.accepted(order_type=OrderType.MARKET, price=None)
    desk.row(line, is_state(OrderState.FILLED))
    line.order.quantity = 20

    assert isinstance(desk.modify(line, broker_order_id, "quantity"), Refused)


def test_a_quantity_that_is_filled_already_is_not_taken(desk: Desk):
    line, broker_order_id = desk.accepted(quantity=10)
    desk.row(line, is_state(OrderState.OPEN))
    desk.control("POST", "/fills", {"order_id": broker_order_id, "quantity": 6})
    desk.row(line, is_state(OrderState.PARTIALLY_FILLED))
    line.order.quantity = 5

    assert desk.modify(line, broker_order_id, "quantity") == Accepted(broker_order_id)
    row = desk.row(line, lambda row: row.message is not None)
    assert "not above the 6" in (row.message or "")
    row = desk.row(line, is_state(OrderState.PARTIALLY_FILLED))
    assert (row.quantity, row.filled_quantity) == (10, 6)


def test_a_26th_modify_is_refused_where_the_broker_has_a_cap(desk: Desk):
    line, broker_order_id = desk.accepted(quantity=10)
    desk.row(line, is_state(OrderState.OPEN))
    most = desk.adapter.capabilities.modifies_max or 26
    for quantity in range(11, 11 + most):
        line.order.quantity = quantity
        assert desk.modify(line, broker_order_id, "quantity") == Accepted(broker_order_id)
        desk.row(line, lambda row, quantity=quantity: row.state is OrderState.OPEN and row.quantity == quantity)
    line.order.quantity = 9

    outcome = desk.modify(line, broker_order_id, "quantity")

    assert isinstance(outcome, Refused if desk.adapter.capabilities.modifies_max else Accepted)


def test_a_modify_that_the_exchange_refuses_leaves_the_terms(desk: Desk):
    line, broker_order_id = desk.accepted(quantity=10)
    desk.row(line, is_state(OrderState.OPEN))
    desk.fault("refuse_change", "modify", message="16999 : not today")
    line.order.quantity = 12

    assert desk.modify(line, broker_order_id, "quantity") == Accepted(broker_order_id)
    row = desk.row(line, lambda row: row.state is OrderState.OPEN and row.message is not None)
    assert (row.quantity, row.message) == (10, "16999 : not today")


def test_an_order_that_the_exchange_rejects_says_why(desk: Desk):
    desk.fault("reject", "place", message="circuit limit of the day")
    line, _ = desk.accepted()
    row = desk.row(line, is_state(OrderState.REJECTED))

    assert "circuit limit" in (row.message or "")


def test_an_account_without_money_gets_no_order(desk: Desk):
    desk.control("PUT", f"/accounts/{desk.user_id}", {"cash": 1})
    line = desk.line(quantity=1000)
    (outcome,) = desk.place(line)

    assert isinstance(outcome, Accepted if desk.broker == "upstox" else Refused)
    row = desk.row(line, is_state(OrderState.REJECTED))  # a refusal of this kind leaves a row all the same
    assert row.filled_quantity == 0


def test_every_exchange_of_the_broker_takes_an_order(desk: Desk):
    for exchange in sorted(desk.adapter.capabilities.exchanges):
        instrument = next(found for found in INSTRUMENTS.values() if found.exchange == exchange)
        price = Decimal(desk.control("GET", f"/prices/{instrument.key}")["low"])
        product = Product.NRML if instrument.is_derivative else Product.CNC
        line, _ = desk.accepted(instrument=instrument, product=product, price=price, quantity=instrument.lot_size)

        (truth,) = desk.truth(line)
        assert (truth["instrument"], truth["quantity"]) == (instrument.key, instrument.lot_size)
        assert Decimal(truth["price"]) == price


def test_what_the_broker_refuses_leaves_no_order(desk: Desk):
    line = desk.line(price=LIMIT_AWAY + Decimal("0.01"), quantity=0)
    (outcome,) = desk.place(line)

    assert isinstance(outcome, Refused), outcome
    assert desk.truth(line) == []


def test_funds_are_the_accounts_own(desk: Desk):
    funds = desk.adapter.funds(desk.session, timeout_s=5)

    assert isinstance(funds, Funds)
    assert funds.available.rupees == 10_000_000


def test_each_account_sees_its_own_book(desk: Desk):
    other = Desk(desk.broker, desk.simulator)
    line, _ = desk.accepted()

    assert [row.tag for row in desk.book()] == [line.order.broker_tag]
    assert other.book() == []


def test_an_order_that_shows_late_is_absent_until_then(desk: Desk):
    desk.fault("late_visibility", "place", seconds=0.3)
    line, _ = desk.accepted()

    assert desk.book() == []
    desk.row(line)


def test_rows_that_repeat_are_told_as_they_are(desk: Desk):
    desk.fault("duplicate_rows", "book", count=None)
    line, _ = desk.accepted()

    assert [row.tag for row in desk.book()] == [line.order.broker_tag] * 2


# ---- positions


def test_positions_are_told_in_our_words(desk: Desk):
    future = next(i for i in INSTRUMENTS.values() if i.key.startswith("NFO:NIFTY") and i.kind is Kind.FUTURE)
    for product, side, quantity, instrument in (
        (Product.CNC, Side.BUY, 7, INFY),
        (Product.MIS, Side.SELL, 4, INFY),
        (Product.MTF, Side.BUY, 3, INFY),
        (Product.NRML, Side.SELL, future.lot_size, future),
    ):
        terms = {"order_type": OrderType.MARKET, "price": None}
        line, _ = desk.accepted(instrument=instrument, product=product, side=side, quantity=quantity, **terms)
        desk.row(line, is_state(OrderState.FILLED))
    positions = desk.adapter.positions(desk.session, timeout_s=5)

    assert not isinstance(positions, Unreadable)
    held = {(p.instrument, p.product): (p.quantity, p.carried, p.of_today) for p in positions}
    assert held == {
        ("NSE:INFY", Product.CNC): (7, 0, 7),
        ("NSE:INFY", Product.MIS): (-4, 0, -4),
        ("NSE:INFY", Product.MTF): (3, 0, 3),
        (future.key, Product.NRML): (-future.lot_size, 0, -future.lot_size),
    }
    assert all(position.average_price for position in positions)


def test_a_position_that_was_closed_is_told_as_nothing(desk: Desk):
    assert desk.adapter.positions(desk.session, timeout_s=5) == []
    for side in (Side.BUY, Side.SELL):
        terms = {"order_type": OrderType.MARKET, "price": None, "product": Product.MIS}
        line, _ = desk.accepted(side=side, quantity=5, **terms)
        desk.row(line, is_state(OrderState.FILLED))
    (position,) = desk.adapter.positions(desk.session, timeout_s=5)  # type: ignore[misc]

    assert (position.quantity, position.of_today, position.average_price) == (0, 0, None)


@pytest.mark.parametrize("kind", ["html", "truncated", "drop_before", "error_before", "rate_limited", "token_dead"])
def test_positions_that_cannot_be_read_are_none(desk: Desk, kind: str):
    desk.fault(kind, "positions", count=None)

    positions = desk.adapter.positions(desk.session, timeout_s=5)

    assert isinstance(positions, Unreadable)
    assert positions.session_dead == (kind == "token_dead")


# ---- failures; what each proves of an order is in outcome_matrix.py

FAULTS: dict[str, dict[str, Any]] = {
    "latency_before": {"seconds": 0.7},  # the server goes on after we left
    "drop_before": {},
    "reset_before": {},
    "error_before": {},
    "rate_limited": {},
    "token_dead": {},
    "ip_not_registered": {},
    "refused": {},
    "latency_after": {"seconds": 0.7},
    "drop_after": {},
    "reset_after": {},
    "cut": {},
    "error_after": {"status": 504},
    "html": {},
    "truncated": {},
    "no_id": {},
    "timed_out": {},
    "drip": {"seconds": 1},
    "huge": {},
}


@pytest.mark.parametrize("kind", sorted(FAULTS.keys() - {"no_id", "ip_not_registered"}))
def test_a_failed_read_is_no_book(desk: Desk, kind: str):
    desk.accepted()
    desk.fault(kind, "book", **FAULTS[kind])
    book = desk.adapter.book(desk.session, timeout_s=0.4)

    if kind == "huge":
        assert isinstance(book, Unreadable) or [row.tag for row in book]
    else:
        assert isinstance(book, Unreadable), book
        assert book.session_dead == (kind == "token_dead")


def test_a_dead_session_is_told_apart_everywhere(desk: Desk):
    line, broker_order_id = desk.accepted()
    desk.control("PUT", f"/accounts/{desk.user_id}", {"token_alive": False})
    (placed,) = desk.place(desk.line())
    cancelled = desk.adapter.cancel(desk.session, broker_order_id, timeout_s=5)
    modified = desk.modify(line, broker_order_id, "price")
    book = desk.adapter.book(desk.session, timeout_s=5)
    funds = desk.adapter.funds(desk.session, timeout_s=5)

    for outcome in (placed, cancelled, modified):
        assert isinstance(outcome, NotSent)
        assert outcome.session_dead
    for read in (book, funds):
        assert isinstance(read, Unreadable)
        assert read.session_dead
    assert desk.session.access_token not in str([placed, cancelled, modified, book, funds])


def test_no_outcome_ever_says_less_than_the_truth(desk: Desk):
    """Many orders, each hit by whatever comes: a no is never wrong, a receipt is real, nothing is there twice."""
    for kind in FAULTS:
        desk.fault(kind, "place", **{"seconds": 0.3, **FAULTS[kind]}, count=None, probability=0.03)
    outcomes = [(line, desk.place(line, timeout_s=0.25)[0]) for line in (desk.line() for _ in range(60))]

    ends = {type(outcome) for _, outcome in outcomes}
    assert {Accepted, Unknown} <= ends
    for line, outcome in outcomes:
        truth = desk.truth(line)
        assert len(truth) <= 1
        if isinstance(outcome, Accepted):
            assert [order["order_id"] for order in truth] == [outcome.broker_order_id]
        elif isinstance(outcome, Refused | NotSent):
            assert truth == []


# ---- many lines


def test_many_lines_are_placed_in_one_request(upstox: Desk):
    lines = [upstox.line(side=side) for side in (Side.SELL, Side.BUY) * 5]
    for line in lines:
        line.order.product = Product.MIS
        line.order.price = INFY.close + (100 if line.order.side is Side.SELL else -100) * INFY.tick
    outcomes = upstox.place(*lines)

    assert upstox.requests("multi", "place") == 1
    for line, outcome in zip(lines, outcomes, strict=True):
        assert isinstance(outcome, Accepted)
        assert upstox.row(line).broker_order_id == outcome.broker_order_id


@pytest.mark.parametrize(("code", "proves"), [("UDAPI1158", Refused), ("UDAPI100500", Unknown)])
def test_a_line_that_fails_on_its_own_fails_alone(upstox: Desk, code: str, proves: type[Outcome]):
    """A documented refusal is one; an unexpected failure of the broker's leaves the line's fate open."""
    upstox.fault("refuse_lines", "multi", lines=[1], code=code)
    lines = [upstox.line() for _ in range(3)]
    outcomes = upstox.place(*lines)

    assert [type(outcome) for outcome in outcomes] == [Accepted, proves, Accepted]
    assert [len(upstox.truth(line)) for line in lines] == [1, 0, 1]
    assert upstox.requests("multi") == 1


def test_bad_lines_are_refused_and_the_others_placed(upstox: Desk):
    lines = [upstox.line(), upstox.line(quantity=0), upstox.line()]
    outcomes = upstox.place(*lines)

    assert [type(outcome) for outcome in outcomes] == [Accepted, Refused, Accepted]
    assert [len(upstox.truth(line)) for line in lines] == [1, 0, 1]
    assert upstox.requests("multi") == 2


def test_the_second_request_of_a_batch_can_be_lost(upstox: Desk):
    upstox.fault("drop_after", "multi", skip=1)
    lines = [upstox.line(), upstox.line(quantity=0), upstox.line()]
    outcomes = upstox.place(*lines)

    assert [type(outcome) for outcome in outcomes] == [Unknown, Refused, Unknown]
    assert [len(upstox.truth(line)) for line in lines] == [1, 0, 1]


# ---- what is sent is what was previewed


@pytest.mark.parametrize("broker", BROKERS)
@pytest.mark.parametrize("count", [1, 3])
def test_the_broker_hears_byte_for_byte_what_the_payload_said(simulator: SimulatorServer, broker: str, count: int):
    with loopback(lambda peer, heard: relay(peer, heard, simulator.urls[broker])) as between:
        desk = Desk(broker, simulator)
        adapter = registry.BROKERS[broker]({f"{broker.upper()}_BASE_URL": between.url})
        assert adapter is not None
        size = adapter.capabilities.lines_per_call
        lines = [desk.line(quantity=number) for number in range(1, count + 1)]
        said: list[Payload] = []
        for start in range(0, count, size):
            call = lines[start : start + size]
            payloads = adapter.payload(desk.session, call)
            assert not between.heard[len(said) :], "a payload sends nothing"
            said += [payload for payload in payloads if isinstance(payload, Payload)]
            outcomes = adapter.place(desk.session, call, timeout_s=5)
            assert all(isinstance(outcome, Accepted) for outcome in outcomes), outcomes

    assert len(between.heard) == len(said) == -(-count // size)
    for payload, heard in zip(said, between.heard, strict=True):
        assert payload.base_url == between.url
        assert (payload.method, payload.target, payload.body) == (heard.method, heard.target, heard.body)
        own = {name.lower(): value for name, value in payload.all_headers.items()}
        assert {name: value for name, value in heard.headers.items() if name not in TRANSPORT_HEADERS} == own
        assert desk.session.access_token not in repr(payload)
    assert [len(desk.truth(line)) for line in lines] == [1] * count


def test_a_line_without_words_is_told_apart_and_never_sent(desk: Desk):
    spoken, unspoken = desk.line(), desk.line(price=None)
    told = [said for line in (spoken, unspoken) for said in desk.adapter.payload(desk.session, [line])]

    assert [type(said) for said in told] == [Payload, Unsayable]
    assert desk.place(unspoken) == [told[1].refusal]  # type: ignore[union-attr]
    assert desk.truth(unspoken) == []


TRANSPORT_HEADERS = {"host", "content-length", "accept-encoding"}


def relay(peer: socket.socket, heard: far.Heard, url: str) -> bool:
    """Hands a request on as it came, and its answer back."""
    there = http.client.HTTPConnection(urlsplit(url).netloc, timeout=10)
    there.request(heard.method, urlsplit(url).path + heard.target, heard.body, heard.headers)
    answer = there.getresponse()
    body = answer.read()
    there.close()
    return bool(far.answer(answer.status, body)(peer, heard))


# ---- postbacks


def test_a_postback_points_at_its_order(desk: Desk):
    with loopback(far.answer(200, "{}")) as hook:
        desk.control("PUT", f"/accounts/{desk.user_id}", {"postback_url": f"{hook.url}/hook"})
        line, broker_order_id = desk.accepted(order_type=OrderType.MARKET, price=None)
        desk.row(line, is_state(*TERMINAL))
        deadline = time.monotonic() + 5
        while not hook.heard:
            assert time.monotonic() < deadline
    heard = hook.heard[0]
    hint = desk.adapter.hint(desk.session, heard.headers, heard.body)

    assert hint is not None
    assert (hint.broker_order_id, hint.verified) == (broker_order_id, desk.broker == "zerodha")


# ---- the rate budget


@pytest.mark.parametrize("broker", BROKERS)
def test_the_budget_of_two_processes_never_meets_the_brokers_limit(broker: str, tmp_path: Path):
    """A broker that counts 10 in each calendar second, two budgets that share one Valkey, and no 429."""
    with own_valkey(tmp_path) as path, SimulatorServer() as simulator:
        desk = Desk(broker, simulator)
        outcomes: list[Outcome] = []
        left = threading.Semaphore(28)

        def send() -> None:
            with Redis(unix_socket_path=path) as redis:
                budget = RateBudget(redis, broker, desk.adapter.capabilities.order_windows)
                while left.acquire(blocking=False):
                    while not (granted := budget.take(desk.user_id, 1)).count:
                        time.sleep(granted.wait_s)
                    outcomes.extend(desk.place(desk.line()))

        threads = [threading.Thread(target=send) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert len(outcomes) == 28
    assert {type(outcome) for outcome in outcomes} == {Accepted}
