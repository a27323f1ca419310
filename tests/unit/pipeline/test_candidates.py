"""Candidates: which accounts an order may go to, the preferred one first."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from domain.accounts import Account
from domain.capabilities import Capabilities
from domain.instruments import Instrument
from domain.orders import Order, OrderType, Product, Side, Validity
from domain.reference import cash_instruments
from domain.settings import Settings
from pipeline.candidates import candidates

NOW = datetime(2026, 11, 23, 5, 0, tzinfo=UTC)
ALL = Capabilities(
    broker="any",
    exchanges=frozenset({"NSE", "BSE", "NFO"}),
    products=frozenset(Product),
    order_types=frozenset(OrderType),
    validities=frozenset(Validity),
)
ABLE = {name: replace(ALL, broker=name) for name in ("upstox", "zerodha", "fyers")}


def an_account(id_: str, broker: str, *, is_default: bool = False) -> Account:
    return Account(
        id=id_, user_id="u", broker=broker, calendar="SIM", is_default=is_default, session="ALIVE"
    )


ACCOUNTS = (
    an_account("FY1", "fyers"),
    an_account("UP1", "upstox"),
    an_account("UP2", "upstox"),
    an_account("ZR1", "zerodha", is_default=True),
)


def chosen(
    able: dict[str, Capabilities] = ABLE,
    settings: Settings | None = None,
    default_broker: str | None = None,
    accounts: tuple[Account, ...] = ACCOUNTS,
    **given: Any,
) -> list[str]:
    terms: dict[str, Any] = {
        "id": "0190",
        "intent_id": "0190",
        "line": 0,
        "correlation_id": "c",
        "user_id": "u",
        "instrument": "NSE:INFY",
        "side": Side.BUY,
        "quantity": 1,
        "product": Product.CNC,
        "order_type": OrderType.LIMIT,
        "validity": Validity.DAY,
        "accepted_at": NOW,
        "send_before": NOW + timedelta(minutes=2),
    }
    order = Order(**{**terms, **given})
    known = instrument("NSE:INFY")
    return [one.id for one in candidates(order, accounts, able, known, settings or Settings(), default_broker)]


def instrument(key: str) -> Instrument:
    return next(each for each in cash_instruments() if each.key == key)


def test_nothing_named_is_the_default_then_the_fallback() -> None:
    assert chosen() == ["ZR1", "UP1", "UP2"]


def test_the_strategys_broker_comes_before_the_fallback() -> None:
    settings = Settings(strategy_brokers={"momentum": "fyers"}, fallback_brokers=("upstox",))

    assert chosen(settings=settings, strategy="momentum") == ["ZR1", "FY1", "UP1", "UP2"]


def test_the_broker_that_the_user_has_chosen_comes_first_in_place_of_the_account_that_was_marked() -> None:
    settings = Settings(strategy_brokers={"momentum": "zerodha"}, fallback_brokers=("zerodha",))

    assert chosen(default_broker="upstox") == ["UP1", "UP2", "ZR1"]
    assert chosen(default_broker="fyers", settings=settings, strategy="momentum") == ["FY1", "ZR1"]
    assert chosen(default_broker="fyers", wanted_broker="zerodha") == ["ZR1"]


def test_of_a_chosen_brokers_accounts_the_marked_one_comes_first() -> None:
    marked = (an_account("UP2", "upstox", is_default=True), an_account("UP1", "upstox"))

    assert chosen(default_broker="upstox", accounts=marked) == ["UP2", "UP1"]


def test_a_chosen_broker_without_an_account_leaves_it_to_the_strategy_and_the_fallback() -> None:
    assert chosen(default_broker="dhan") == ["UP1", "UP2", "ZR1"]


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        ({"wanted_account": "UP2"}, ["UP2"]),
        ({"wanted_broker": "upstox"}, ["UP1", "UP2"]),
        ({"wanted_account": "UP2", "wanted_broker": "zerodha"}, []),
        ({"wanted_account": "XX9"}, []),
        ({"wanted_broker": "dhan"}, []),
    ],
)
def test_what_is_named_is_taken_and_nothing_else(named: dict[str, str], expected: list[str]) -> None:
    assert chosen(**named) == expected


def test_brokers_that_cannot_take_it_are_passed_over() -> None:
    able = ABLE | {"zerodha": replace(ALL, broker="zerodha", products=frozenset({Product.MIS}))}

    assert chosen(able) == ["UP1", "UP2"]


def test_where_none_can_take_it_the_preferred_ones_are_judged_all_the_same() -> None:
    able = {name: replace(each, exchanges=frozenset({"MCX"})) for name, each in ABLE.items()}

    assert chosen(able) == ["ZR1", "UP1", "UP2"]


def test_a_broker_without_an_adapter_here_can_take_nothing() -> None:
    assert chosen({"upstox": ABLE["upstox"]}) == ["UP1", "UP2"]
