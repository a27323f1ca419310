"""Why orders are refused, and what money they take."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest
from sim_world import FUTURE, GROSS, NOON, OPTION, SHARE, USER, an_ask, an_exchange, place, wait

from brokers.simulator.book import Status
from domain.money import Money
from domain.orders import Product, Side


@pytest.mark.parametrize(("ask", "code"), [
    (an_ask(price="990.05"), ""),
    (an_ask(price="990.01"), "TICK"),
    (an_ask(price="800.00"), ""),
    (an_ask(price="799.95"), "BAND"),
    (an_ask(price="1200.00"), ""),
    (an_ask(price="1200.05"), "BAND"),
    (an_ask(5000), ""),
    (an_ask(5001), "FREEZE"),
    (an_ask(65, instrument=FUTURE), ""),
    (an_ask(66, instrument=FUTURE), "LOT"),
    (an_ask(65, instrument=FUTURE, product=Product.CNC), "PRODUCT"),
    (an_ask(product=Product.NRML), "PRODUCT"),
    (an_ask(instrument=GROSS), "PRODUCT"),
    (an_ask(instrument=GROSS, product=Product.CNC), ""),
    (an_ask(trigger="1000.05", price="1001.00"), ""),
    (an_ask(trigger="1000.00", price="1001.00"), "TRIGGER"),
    (an_ask(trigger="1001.05", price="1001.00"), "TRIGGER"),
    (an_ask(trigger="999.95", side=Side.SELL), ""),
    (an_ask(trigger="1000.00", side=Side.SELL), "TRIGGER"),
    (an_ask(65, instrument=OPTION, trigger="45.00"), "TRIGGER"),
    (an_ask(product=Product.CNC, side=Side.SELL), "HOLDINGS"),
])  # fmt: skip
def test_a_refusal_names_its_rule_at_the_edge_and_just_past_it(ask, code):
    exchange = an_exchange()
    order = place(exchange, ask)
    wait(exchange, 3)

    assert order.refusal_code == code
    assert (order.status is Status.REJECTED) == bool(code)
    if code:
        assert order.message == order.refusal
        assert order.exchange_order_id is None


def test_an_expired_contract_is_refused():
    exchange = an_exchange(now=NOON + timedelta(days=2))

    assert place(exchange, an_ask(65, instrument=FUTURE)).refusal_code == "EXPIRED"


def test_funds_run_out_at_the_last_rupee():
    exchange = an_exchange()
    account = exchange.accounts[USER]
    account.cash = Money(2_000 * 100 + 99)  # intraday takes a fifth: ₹2,000 for ten at ₹1,000

    assert place(exchange, an_ask(10)).refusal_code == ""
    assert account.available == Money(99)
    assert place(exchange, an_ask(1)).refusal_code == "FUNDS"


def test_funds_come_back_when_an_order_is_cancelled():
    exchange = an_exchange()
    account = exchange.accounts[USER]
    before = account.available
    order = place(exchange, an_ask(price="990.00"))
    wait(exchange)
    assert account.available < before

    exchange.cancel(order)
    wait(exchange)

    assert account.available == before


def test_an_order_that_only_closes_a_position_needs_no_funds():
    exchange = an_exchange()
    account = exchange.accounts[USER]
    place(exchange, an_ask(10))
    wait(exchange)
    account.cash = Money(0)

    assert place(exchange, an_ask(11, side=Side.SELL)).refusal_code == "FUNDS"
    assert place(exchange, an_ask(10, side=Side.SELL)).refusal_code == ""
    wait(exchange)
    assert account.used_total == Money(0)


def test_shares_can_be_promised_once():
    exchange = an_exchange()
    exchange.accounts[USER].holdings[SHARE.key] = 10
    sell = an_ask(6, product=Product.CNC, side=Side.SELL, price="1100.00")

    assert place(exchange, sell).refusal_code == ""
    assert place(exchange, sell).refusal_code == "HOLDINGS"


def test_shares_bought_today_can_be_sold():
    exchange = an_exchange()
    place(exchange, an_ask(10, product=Product.CNC))
    wait(exchange)

    assert place(exchange, an_ask(10, product=Product.CNC, side=Side.SELL)).refusal_code == ""


def test_an_option_is_bought_for_its_premium_and_sold_against_its_strike():
    exchange = an_exchange()
    exchange.pin(OPTION, Decimal("40.00"))
    account = exchange.accounts[USER]
    before = account.available
    place(exchange, an_ask(65, instrument=OPTION, product=Product.NRML))
    wait(exchange)
    assert before - account.available == Money(65 * 40 * 100)

    place(exchange, an_ask(130, instrument=OPTION, product=Product.NRML, side=Side.SELL))
    wait(exchange)
    assert before - account.available == Money(65 * 1000 * 100 * 15 // 100)


def test_the_exchange_rejects_so_many_of_a_hundred():
    exchange = an_exchange(reject_percent=50)
    codes = [place(exchange, an_ask(1)).refusal_code for _ in range(100)]

    assert 25 < codes.count("EXCHANGE") < 75
