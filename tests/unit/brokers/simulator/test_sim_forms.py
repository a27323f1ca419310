"""Each broker's form of an order: what is refused, in which words; and that nothing else ever comes of it."""

from __future__ import annotations

from contextlib import suppress
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sim_world import INSTRUMENTS, NOON, SHARE, USER

from brokers.simulator.book import Ask
from brokers.simulator.faults import NO_FAULTS
from brokers.simulator.listing import Listing
from brokers.simulator.upstox.answers import Refused as UpstoxRefused
from brokers.simulator.upstox.asks import body_of
from brokers.simulator.upstox.asks import read_order as read_upstox
from brokers.simulator.web import Request
from brokers.simulator.zerodha.answers import Refused as ZerodhaRefused
from brokers.simulator.zerodha.asks import read_order as read_zerodha
from domain.orders import OrderType, Product

LISTING = Listing(lambda today: INSTRUMENTS, NOON.date())
UPSTOX = {
    "quantity": 10,
    "product": "I",
    "validity": "DAY",
    "price": 990,
    "instrument_token": f"NSE_EQ|{SHARE.isin}",
    "order_type": "LIMIT",
    "transaction_type": "BUY",
    "disclosed_quantity": 0,
    "trigger_price": 0,
    "is_amo": False,
}
ZERODHA = {
    "tradingsymbol": "ACME",
    "exchange": "NSE",
    "transaction_type": "BUY",
    "order_type": "LIMIT",
    "quantity": "10",
    "product": "MIS",
    "price": "990",
}
NO = object()  # the field is left out


def changed(usual: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in (usual | change).items() if value is not NO}


@pytest.mark.parametrize(("change", "codes"), [
    ({}, []),
    ({"tag": "x" * 40}, []),
    ({"tag": "x" * 41}, ["UDAPI1119"]),
    ({"quantity": 0}, ["UDAPI1052"]),
    ({"quantity": 1.5}, ["UDAPI1052"]),
    ({"quantity": True}, ["UDAPI1052"]),
    ({"instrument_token": NO}, ["UDAPI1026"]),
    ({"instrument_token": "NSE_EQ|BAD"}, ["UDAPI100011"]),
    ({"order_type": NO}, ["UDAPI1004"]),
    ({"order_type": "STOP"}, ["UDAPI1056"]),
    ({"validity": NO}, ["UDAPI1007"]),
    ({"validity": "GTC"}, ["UDAPI1055"]),
    ({"product": "CNC"}, ["UDAPI1054"]),
    ({"product": "MTF", "instrument_token": "NSE_FO|103"}, ["UDAPI1054"]),
    ({"transaction_type": "SHORT"}, ["UDAPI1057"]),
    ({"price": 0}, ["UDAPI100036"]),
    ({"price": "990"}, ["UDAPI100036"]),
    ({"is_amo": NO}, ["UDAPI100036"]),
    ({"market_protection": 25}, []),
    ({"market_protection": 26}, ["UDAPI1159"]),
    ({"quantity": 0, "validity": "GTC"}, ["UDAPI1052", "UDAPI1055"]),
])  # fmt: skip
def test_upstox_refuses_with_its_codes(change, codes):
    def found() -> list[str]:
        try:
            read_upstox(changed(UPSTOX, change), LISTING, USER, NO_FAULTS)
        except UpstoxRefused as refused:
            return [problem.code for problem in refused.problems]
        return []

    assert found() == codes


@pytest.mark.parametrize(("change", "words"), [
    ({}, ""),
    ({"tag": "x" * 20}, ""),
    ({"tag": "x" * 21}, "tag"),
    ({"quantity": "0"}, "quantity"),
    ({"quantity": "1e3"}, "quantity"),
    ({"quantity": "٣"}, "quantity"),
    ({"tradingsymbol": "NOBODY"}, "does not exist"),
    ({"order_type": NO}, "order_type"),
    ({"product": "BO"}, "product"),
    ({"validity": "TTL"}, "validity"),
    ({"price": NO}, "price"),
    ({"price": "NaN"}, "price"),
    ({"order_type": "SL"}, "trigger_price"),
    ({"order_type": "MARKET"}, "market protection"),
    ({"order_type": "MARKET", "market_protection": "0"}, "market protection"),
    ({"order_type": "MARKET", "market_protection": "-1"}, ""),
    ({"order_type": "MARKET", "market_protection": "100.5"}, "market_protection"),
    ({"order_type": "SL-M", "trigger_price": "995"}, "market protection"),
])  # fmt: skip
def test_zerodha_refuses_in_its_words(change, words):
    def found() -> str:
        try:
            read_zerodha(changed(ZERODHA, change), "regular", LISTING, USER, NO_FAULTS)
        except ZerodhaRefused as refused:
            return refused.message
        return ""

    assert bool(found()) == bool(words)
    assert words in found()


def test_products_are_told_apart_by_the_instrument():
    share, _ = read_upstox(UPSTOX | {"product": "D"}, LISTING, USER, NO_FAULTS)
    future, _ = read_upstox(UPSTOX | {"product": "D", "instrument_token": "NSE_FO|103"}, LISTING, USER, NO_FAULTS)

    assert (share.product, future.product) == (Product.CNC, Product.NRML)


def test_a_market_order_forgets_a_price_it_was_sent_with():
    ask, _ = read_upstox(UPSTOX | {"order_type": "MARKET"}, LISTING, USER, NO_FAULTS)

    assert (ask.terms.order_type, ask.terms.price) == (OrderType.MARKET, 0)


def test_prices_are_read_exactly():
    body = body_of(Request("POST", "/", {}, b'{"price": 0.1}'))

    assert body == {"price": Decimal("0.1")}


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.decimals() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=150, deadline=None)
@given(change=st.dictionaries(st.sampled_from([*UPSTOX, "tag", "slice", "market_protection"]), JUNK), whole=JUNK)
def test_upstox_takes_any_json(change, whole):
    for line in (UPSTOX | change, whole):
        with suppress(UpstoxRefused):
            ask, _ = read_upstox(line, LISTING, USER, NO_FAULTS)
            assert isinstance(ask, Ask)


@settings(max_examples=150, deadline=None)
@given(change=st.dictionaries(st.sampled_from([*ZERODHA, "tag", "validity", "trigger_price"]), st.text(max_size=30)))
def test_zerodha_takes_any_form(change):
    with suppress(ZerodhaRefused):
        ask = read_zerodha(ZERODHA | change, "regular", LISTING, USER, NO_FAULTS)
        assert isinstance(ask, Ask)
