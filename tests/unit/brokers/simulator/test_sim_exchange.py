"""Orders walk, trade, rest, change and end at the exchange."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest
from sim_world import FUTURE, PRICE, SHARE, USER, an_ask, an_exchange, place, statuses, wait

from brokers.simulator.book import Status
from brokers.simulator.exchange import AlreadyFinal, BeingProcessed
from domain.orders import OrderType, Side, Validity


def test_a_market_order_walks_to_its_fill():
    exchange = an_exchange()
    order = place(exchange)
    assert statuses(order) == ["put order req received"]

    wait(exchange)

    assert statuses(order)[1:] == ["validation pending", "open pending", "open", "complete"]
    assert [(trade.quantity, trade.price) for trade in order.trades] == [(10, PRICE)]
    assert order.average == PRICE


def test_nothing_happens_while_the_clock_stands_still():
    exchange = an_exchange()
    order = place(exchange)

    exchange.advance(exchange.now)

    assert order.status is Status.RECEIVED


def test_a_limit_order_rests_until_the_price_crosses_it():
    exchange = an_exchange()
    order = place(exchange, an_ask(price="990.00"))
    wait(exchange, 5)
    assert order.status is Status.OPEN

    exchange.pin(SHARE, Decimal("989.95"))
    wait(exchange, 0)

    assert order.status is Status.COMPLETE
    assert order.average == Decimal("989.95")


def test_a_walking_price_finds_resting_orders_at_a_tick():
    exchange = an_exchange()
    exchange.pin(SHARE, None)
    last = exchange.last(SHARE)
    order = place(exchange, an_ask(price=str(last - 1)))
    wait(exchange, 3600)

    assert order.is_final
    assert order.trades[0].price <= last - 1


@pytest.mark.parametrize(("side", "trigger", "price", "hit"), [
    (Side.BUY, "1010.00", None, "1010.00"),
    (Side.SELL, "990.00", None, "990.00"),
    (Side.BUY, "1010.00", "1012.00", "1010.50"),
])  # fmt: skip
def test_a_stop_waits_for_its_trigger(side, trigger, price, hit):
    exchange = an_exchange()
    order = place(exchange, an_ask(side=side, trigger=trigger, price=price))
    wait(exchange, 5)
    assert order.status is Status.TRIGGER_PENDING

    exchange.pin(SHARE, Decimal(hit))
    wait(exchange, 0)

    assert statuses(order)[-2:] == ["open", "complete"]


def test_a_triggered_stop_limit_rests_where_its_limit_forbids_the_price():
    exchange = an_exchange()
    order = place(exchange, an_ask(trigger="1010.00", price="1012.00"))
    wait(exchange, 5)

    exchange.pin(SHARE, Decimal("1015.00"))
    wait(exchange, 5)

    assert (order.status, order.filled) == (Status.OPEN, 0)


def test_the_rest_of_an_ioc_order_is_cancelled():
    exchange = an_exchange(dry_percent=100, partial_percent=100)
    order = place(exchange, an_ask(100, terms={"validity": Validity.IOC}))
    wait(exchange, 5)

    assert order.status is Status.CANCELLED
    assert 0 < order.filled < 100


def test_liquidity_caps_each_trade():
    exchange = an_exchange(liquidity_max=30)
    order = place(exchange, an_ask(100))
    wait(exchange, 5)

    assert [trade.quantity for trade in order.trades] == [30, 30, 30, 10]
    assert order.status is Status.COMPLETE


def test_a_dry_market_goes_on_at_the_next_tick():
    exchange = an_exchange(dry_percent=100, partial_percent=100, trades_max=2)
    order = place(exchange, an_ask(100))
    wait(exchange, 0.5)
    assert (order.status, order.filled) == (Status.OPEN, 50)

    wait(exchange, 2)

    assert order.status is Status.COMPLETE


def test_trades_are_of_whole_lots():
    exchange = an_exchange(liquidity_max=100)
    order = place(exchange, an_ask(195, instrument=FUTURE))
    wait(exchange, 5)

    assert [trade.quantity for trade in order.trades] == [65, 65, 65]


def test_an_odd_fill_leaves_no_more_to_trade_than_is_pending():
    exchange = an_exchange()
    order = place(exchange, an_ask(65, instrument=FUTURE, price="990.00"))
    wait(exchange)
    exchange.force_fill(order, 10, Decimal("990.00"))
    exchange.pin(FUTURE, Decimal("989.90"))
    wait(exchange)

    assert [trade.quantity for trade in order.trades] == [10, 55]


def test_a_cancel_takes_a_while_and_a_fill_may_win():
    exchange = an_exchange(cancel_delay_ms=500)
    order = place(exchange, an_ask(price="990.00"))
    wait(exchange)
    exchange.cancel(order)
    assert order.status is Status.CANCEL_PENDING

    exchange.force_fill(order, 10, Decimal("990.00"))
    wait(exchange, 5)

    assert order.status is Status.COMPLETE
    with pytest.raises(AlreadyFinal):
        exchange.cancel(order)


def test_a_cancel_keeps_what_was_filled():
    exchange = an_exchange()
    order = place(exchange, an_ask(price="990.00"))
    wait(exchange)
    exchange.force_fill(order, 4, Decimal("990.00"))
    exchange.cancel(order)
    wait(exchange)

    assert (order.status, order.filled) == (Status.CANCELLED, 4)


def test_a_cancel_that_comes_before_the_exchange_has_the_order_waits_for_it():
    exchange = an_exchange(step_delay_ms=100, fill_delay_ms=1000)
    order = place(exchange)
    exchange.cancel(order)
    wait(exchange)

    assert order.status is Status.CANCELLED
    assert "open" in statuses(order)


def test_a_refused_cancel_leaves_the_order_open():
    exchange = an_exchange()
    order = place(exchange, an_ask(price="990.00"))
    wait(exchange)
    exchange.cancel(order, forced_refusal="no")
    wait(exchange)

    assert statuses(order)[-3:] == ["cancel pending", "not cancelled", "open"]


def test_a_modify_changes_terms_once_it_is_through():
    exchange = an_exchange()
    order = place(exchange, an_ask(price="990.00"))
    wait(exchange)
    exchange.modify(order, replace(order.terms, quantity=20, price=Decimal("995.00")))
    assert order.terms.quantity == 10
    with pytest.raises(BeingProcessed):
        exchange.modify(order, order.terms)
    wait(exchange)

    assert (order.terms.quantity, order.terms.price, order.modifications) == (20, Decimal("995.00"), 1)
    assert statuses(order)[-4:] == ["modify validation pending", "modify pending", "modified", "open"]


@pytest.mark.parametrize(("change", "why"), [
    ({"price": Decimal("990.01")}, "tick"),
    ({"price": Decimal("700.00")}, "out of the day's range"),
    ({"quantity": 5001}, "freeze"),
    ({"quantity": 3}, "not above the 4"),
])  # fmt: skip
def test_a_modify_the_exchange_refuses_keeps_the_old_terms(change, why):
    exchange = an_exchange()
    order = place(exchange, an_ask(price="990.00"))
    wait(exchange)
    exchange.force_fill(order, 4, Decimal("990.00"))
    before = order.terms
    exchange.modify(order, replace(before, **change))
    wait(exchange)

    assert order.terms == before
    assert statuses(order)[-2:] == ["not modified", "open"]
    assert why in (order.message or "")


def test_a_modify_to_market_trades_a_resting_order():
    exchange = an_exchange()
    order = place(exchange, an_ask(price="990.00"))
    wait(exchange, 3)
    exchange.modify(order, replace(order.terms, order_type=OrderType.MARKET, price=Decimal(0)))
    wait(exchange)

    assert order.status is Status.COMPLETE


def test_an_order_shows_in_the_book_only_when_it_is_visible():
    exchange = an_exchange()
    order = place(exchange, an_ask(tag="late", hidden_s=8))
    wait(exchange, 7)
    assert order.status is Status.COMPLETE
    assert (exchange.book(USER), exchange.tagged(USER, "late"), exchange.find(USER, order.order_id)) == ([], [], None)

    wait(exchange, 1)

    assert exchange.book(USER) == exchange.tagged(USER, "late") == [exchange.find(USER, order.order_id)] == [order]


def test_a_hidden_order_is_told_once_it_appears():
    exchange = an_exchange()
    told: list[str] = []
    exchange.floor.listeners.append(lambda order, row: told.append(str(row.status)))
    place(exchange, an_ask(hidden_s=8))
    wait(exchange, 7)
    assert told == []

    wait(exchange, 2)

    assert told == ["complete"]


def test_the_same_tag_twice_is_two_orders():
    exchange = an_exchange()
    first, second = (place(exchange, an_ask(tag="twin")) for _ in range(2))

    assert first.order_id != second.order_id
    assert exchange.tagged(USER, "twin") == [first, second]


def test_a_market_order_is_stored_as_a_limit_where_the_switch_is_on():
    exchange = an_exchange(market_as_limit=True)
    order = place(exchange, an_ask(terms={"protection": Decimal(2)}))
    wait(exchange)

    assert (order.terms.order_type, order.terms.price) == (OrderType.LIMIT, Decimal("1020.00"))
    assert order.extra_tags == ("mktp", "mktp:2.00")
    assert order.status is Status.COMPLETE


def test_a_stop_that_is_modified_to_a_limit_trades():
    exchange = an_exchange()
    order = place(exchange, an_ask(trigger="1010.00", price="1012.00"))
    wait(exchange, 2)
    exchange.modify(
        order, replace(order.terms, order_type=OrderType.LIMIT, price=Decimal("1001.00"), trigger=Decimal(0))
    )
    wait(exchange, 2)

    assert order.status is Status.COMPLETE


def test_a_long_jump_of_the_clock_is_walked_quickly():
    exchange = an_exchange(day_reset_ist=None)
    order = place(exchange, an_ask(price="990.00"))
    exchange.advance(exchange.now + timedelta(days=365))

    assert order.status is Status.OPEN
