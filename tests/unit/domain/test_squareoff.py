"""Square-off: what closes a position, and that nothing ever turns one over."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import Malformed
from domain.instruments import Instrument
from domain.orders import Product, Side
from domain.reference import cash_instruments
from domain.settings import Settings
from domain.squareoff import LINES_MAX, SquareOff, Traded, UnderWay, Why, closings, limit_price

INFY = next(one for one in cash_instruments() if one.key == "NSE:INFY")
LOTS = replace(INFY, key="NFO:INFYFUT", lot_size=400, freeze_quantity=10_000)
BROKERS = {"A1": "upstox", "A2": "zerodha"}
NO_LIMITS = Settings(order_value_max_paise=None, derivative_value_max_paise=None, quantity_max=None)


def traded(net: int, **terms: Any) -> Traded:
    known: dict[str, Any] = {"account_id": "A1", "instrument": "NSE:INFY", "product": Product.MIS, "strategy": None}
    return Traded(**(known | terms), net=net)


def order(side: str, pending: int, **terms: Any) -> UnderWay:
    known: dict[str, Any] = {
        "account_id": "A1", "broker": "upstox", "instrument": "NSE:INFY", "product": Product.MIS, "strategy": None, "untold": 0,
    }  # fmt: skip
    return UnderWay(**(known | terms), side=Side(side), pending=pending)


def close(
    *held: Traded, orders: tuple[UnderWay, ...] = (), settings: Settings = NO_LIMITS, **wanted: Any
) -> tuple[list[tuple[str, str, int]], dict[Why, int]]:
    """(account, side, quantity) of each order, and what stays by its reason."""
    wanted = wanted or {"all": True}
    known: dict[str, Instrument] = {one.key: one for one in (INFY, LOTS)}
    made, left = closings(held, orders, BROKERS, known, SquareOff.model_validate(wanted), settings)
    return [(one.account_id, one.side.value, one.quantity) for one in made], {one.why: one.quantity for one in left}


def test_a_long_position_is_sold_and_a_short_one_bought() -> None:
    assert close(traded(30), traded(-7, account_id="A2")) == ([("A1", "SELL", 30), ("A2", "BUY", 7)], {})


def test_what_orders_on_the_other_side_may_take_is_left_to_them() -> None:
    assert close(traded(30), orders=(order("SELL", 12),)) == ([("A1", "SELL", 18)], {Why.OPEN_ORDERS: 12})
    assert close(traded(30), orders=(order("SELL", 50),)) == ([], {Why.OPEN_ORDERS: 30})


def test_what_is_on_its_way_in_is_no_position_yet() -> None:
    assert close(traded(30), orders=(order("BUY", 12),)) == ([("A1", "SELL", 30)], {})


def test_an_order_that_may_go_to_any_account_counts_at_each() -> None:
    anywhere = order("SELL", 10, account_id=None, broker=None)

    assert close(traded(30), traded(30, account_id="A2"), orders=(anywhere,))[0] == [("A1", "SELL", 20), ("A2", "SELL", 20)]
    at_zerodha = order("SELL", 10, account_id=None, broker="zerodha")
    assert close(traded(30), traded(30, account_id="A2"), orders=(at_zerodha,))[0] == [("A1", "SELL", 30), ("A2", "SELL", 20)]


def test_a_fill_whose_trades_are_not_known_yet_counts() -> None:
    assert close(traded(30), orders=(order("SELL", 0, untold=30),)) == ([], {})
    assert close(orders=(order("BUY", 5, untold=15),)) == ([("A1", "SELL", 15)], {})


def test_holdings_are_closed_where_they_are_named_and_a_sale_of_older_ones_is_no_short() -> None:
    owned, sold = traded(10, product=Product.CNC), traded(-10, product=Product.CNC, account_id="A2")

    assert close(owned, sold) == ([], {})
    assert close(owned, sold, filter={"product": "CNC"}) == ([("A1", "SELL", 10)], {})


def test_a_strategy_closes_its_own_and_never_more_than_the_account_holds() -> None:
    mine, other = traded(30, strategy="mine"), traded(-20, strategy="other")

    assert close(mine, filter={"strategy": "mine"}) == ([("A1", "SELL", 30)], {})
    assert close(mine, other, filter={"strategy": "mine"}) == ([("A1", "SELL", 10)], {Why.OTHERS: 20})
    assert close(mine, other) == ([("A1", "SELL", 10)], {})
    assert close(mine, orders=(order("SELL", 30),), filter={"strategy": "mine"}) == ([], {Why.OPEN_ORDERS: 30})


def test_a_part_of_a_lot_stays() -> None:
    held = traded(1_000, instrument="NFO:INFYFUT", product=Product.NRML)

    assert close(held) == ([("A1", "SELL", 800)], {Why.UNDER_A_LOT: 200})


def test_what_is_not_listed_today_stays() -> None:
    assert close(traded(50, instrument="NFO:GONE", product=Product.NRML)) == ([], {Why.NOT_LISTED: 50})


def test_no_order_is_over_a_limit_of_size() -> None:
    made, _ = close(traded(1_000), settings=Settings(order_value_max_paise=50_000_000, quantity_max=300))
    assert sum(quantity for *_, quantity in made) == 1_000
    assert max(quantity for *_, quantity in made) <= min(300, int(500_000 / INFY.close))

    held = traded(250_000, instrument="NFO:INFYFUT", product=Product.NRML)
    assert [quantity for *_, quantity in close(held)[0]] == [100_000, 100_000, 50_000]  # ten slices of the freeze quantity


def test_more_orders_than_an_intent_takes_stay_and_are_told() -> None:
    made, left = close(traded(LINES_MAX + 3), settings=Settings(quantity_max=1))

    assert len(made) == LINES_MAX
    assert left == {Why.TOO_MANY: 3}


def test_a_limit_lies_beyond_the_reference_price_on_a_tick_and_inside_the_band() -> None:
    for side, percent in ((Side.SELL, "0.5"), (Side.BUY, "0.5"), (Side.SELL, "20"), (Side.BUY, "20")):
        price = limit_price(INFY, side, Decimal(percent))
        assert price is not None
        assert price % INFY.tick == 0
        assert (price > INFY.close) is (side is Side.BUY)
        assert abs(price - INFY.close) <= INFY.close * min(Decimal(percent), INFY.band_percent or Decimal(10)) / 100 + INFY.tick


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/all"),
        ({"filter": {}}, "/all"),
        ({"all": True, "filter": {"account": "A1"}}, "/all"),
        ({"all": True, "orderType": "LIMIT"}, "/distancePercent"),
        ({"all": True, "orderType": "LIMIT", "distancePercent": "20.01"}, "/distancePercent"),
        ({"all": True, "orderType": "LIMIT", "distancePercent": "1", "marketProtection": "1"}, "/marketProtection"),
        ({"all": True, "distancePercent": "1"}, "/distancePercent"),
    ],
)
def test_what_is_not_said_is_not_meant(body: dict[str, Any], pointer: str) -> None:
    with pytest.raises(Malformed) as refused:
        SquareOff.model_validate(body).check()

    assert [fault.pointer for fault in refused.value.faults] == [pointer]


_SIDES, _NAMES = st.sampled_from(["BUY", "SELL"]), st.sampled_from(["mine", "other", None])


@given(
    held=st.lists(st.tuples(st.integers(-60, 60), _NAMES), max_size=4),
    orders=st.lists(st.tuples(_SIDES, st.integers(0, 40), st.integers(0, 20), _NAMES), max_size=5),
    strategy=_NAMES,
)
def test_no_position_is_ever_turned_over(
    held: list[tuple[int, str | None]], orders: list[tuple[str, int, int, str | None]], strategy: str | None
) -> None:
    """Even when every order against it fills, and none of those that would add to it."""
    rows = [traded(net, strategy=name) for net, name in held]
    under_way = tuple(order(side, pending, untold=untold, strategy=name) for side, pending, untold, name in orders)
    wanted: dict[str, Any] = {"filter": {"strategy": strategy}} if strategy else {"all": True}
    made, _ = close(*rows, orders=under_way, **wanted)
    total = sum(net for net, _ in held) + sum(one.sign * one.untold for one in under_way)
    closed = sum(quantity for *_, quantity in made)
    for _, side, _ in made:
        assert side == ("SELL" if total > 0 else "BUY")
        against = sum(one.pending for one in under_way if one.side.value == side)
        assert closed + against <= abs(total)
