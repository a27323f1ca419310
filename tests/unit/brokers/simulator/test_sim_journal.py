"""A restarted exchange has forgotten nothing that anyone heard of."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sim_world import INSTRUMENTS, NOON, PRICE, SHARE, USER, an_ask, an_exchange, place, wait

from brokers.simulator.book import Status
from brokers.simulator.exchange import Exchange
from brokers.simulator.journal import Journal, last_moment, mend, read
from brokers.simulator.listing import Listing
from brokers.simulator.restore import restore
from brokers.simulator.settings import Settings
from domain.orders import Product, Side


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "books.jsonl"


def restarted(state: Path) -> Exchange:
    mend(state)
    records = list(read(state))
    exchange = Exchange(
        seed="1",
        settings=Settings(),
        listing=Listing(lambda today: INSTRUMENTS, NOON.date()),
        now=last_moment(records) or NOON,
        journal=Journal(state),
    )
    restore(exchange, records)
    return exchange


def facts(exchange: Exchange) -> list[Any]:
    return [
        (o.order_id, o.status, o.terms, o.filled, o.average, o.trades, o.ask.tag, o.day, o.visible_at, o.extra_tags)
        for o in exchange.books.all.values()
    ]


def test_everything_is_as_it_was(state):
    exchange = an_exchange(state=state, market_as_limit=True)
    place(exchange, an_ask(10, tag="filled", product=Product.CNC))
    place(exchange, an_ask(10, tag="refused", price="990.01"))
    wait(exchange)
    exchange.reset_day()
    place(exchange, an_ask(10, tag="filled", side=Side.SELL))
    wait(exchange)
    exchange.pin(SHARE, Decimal("1001.00"))
    exchange.journal.close()

    again = restarted(state)

    assert facts(again) == facts(exchange)
    assert again.now == exchange.now or again.now < exchange.now
    assert again.prices.pins == exchange.prices.pins
    ours, theirs = again.accounts[USER], exchange.accounts[USER]
    assert (ours.cash, ours.available, ours.holdings) == (theirs.cash, theirs.available, theirs.holdings)
    assert [p.net for p in ours.positions.values()] == [p.net for p in theirs.positions.values()]
    assert again.books.day == 2
    assert place(again).order_id not in exchange.books.all


@pytest.mark.parametrize("after_s", [0, 0.007, 0.012, 0.020, 0.050])
def test_an_order_under_way_goes_on_from_wherever_it_was(state, after_s):
    exchange = an_exchange(state=state)
    order = place(exchange)
    wait(exchange, after_s)
    exchange.journal.close()

    again = restarted(state)
    wait(again, 2)

    found = again.books.all[order.order_id]
    assert (found.status, found.filled) == (Status.COMPLETE, 10)
    assert sum(trade.quantity for trade in found.trades) == 10


def test_an_accepted_cancel_is_not_forgotten(state):
    exchange = an_exchange(state=state, cancel_delay_ms=1000)
    order = place(exchange, an_ask(price="990.00"))
    wait(exchange, 0.5)
    exchange.cancel(order)
    exchange.journal.close()

    again = restarted(state)
    wait(again, 5)

    assert again.books.all[order.order_id].status is Status.CANCELLED


def test_a_triggered_stop_stays_triggered(state):
    exchange = an_exchange(state=state)
    order = place(exchange, an_ask(trigger="1010.00", price="1012.00"))
    wait(exchange)
    exchange.pin(SHARE, Decimal("1015.00"))
    wait(exchange)
    exchange.journal.close()

    again = restarted(state)
    again.pin(SHARE, Decimal("1005.00"))
    wait(again, 5)

    assert again.books.all[order.order_id].status is Status.COMPLETE


def test_a_modification_under_way_is_told_as_not_done(state):
    exchange = an_exchange(state=state, step_delay_ms=100)
    order = place(exchange, an_ask(price="990.00"))
    wait(exchange)
    exchange.modify(order, order.terms)
    exchange.journal.close()

    again = restarted(state)

    assert [row.status for row in again.books.all[order.order_id].rows[-2:]] == [Status.NOT_MODIFIED, Status.OPEN]


def test_a_line_torn_by_a_kill_is_cut_off(state):
    exchange = an_exchange(state=state)
    order = place(exchange)
    exchange.journal.close()
    whole = state.read_bytes()
    state.write_bytes(whole + b'{"is":"row","order_')

    again = restarted(state)
    place(again)
    again.journal.close()

    assert next(iter(restarted(state).books.all)) == order.order_id
    assert len(restarted(state).books.all) == 2


def test_a_hidden_order_still_appears_in_its_time(state):
    exchange = an_exchange(state=state)
    exchange.pin(SHARE, PRICE)
    place(exchange, an_ask(hidden_s=30))
    wait(exchange)
    exchange.journal.close()

    again = restarted(state)
    assert again.book(USER) == []
    wait(again, 30)

    assert len(again.book(USER)) == 1
