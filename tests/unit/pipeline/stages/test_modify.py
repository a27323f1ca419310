"""New terms are judged as a new order's would be, but for what the order has already."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from judged import (
    NOON,
    a_derivative_order,
    an_instrument,
    an_order,
    ist,
    margin_facts,
    risk_facts,
    totals,
    validate_facts,
)

from domain.accounts import Totals
from domain.money import Money
from domain.orders import Order, OrderType, Product, Side
from domain.verdicts import Proceed, Reject
from pipeline.stages import margin
from pipeline.stages.modify import Facts, Holding, decide, holding

PRICE = an_instrument("NSE:INFY").close


def facts(account: Totals | None = None, *, at: Any = NOON, **limits: Any) -> Facts:
    shared = account or totals()
    return Facts(validate=validate_facts(at=at), risk=risk_facts(shared, **limits), margin=margin_facts(shared))


def resting(**terms: Any) -> Order:
    """An order that holds what it needs."""
    order = an_order(**{"quantity": 10, "price": PRICE, **terms})
    held = holding(order, an_instrument(order.instrument), facts())
    order.blocked_paise, order.exposure_paise = held.blocked, held.exposure
    return order


def refused(order: Order, judged_by: Facts, **terms: Any) -> str:
    verdict, held = decide(order, replace(order, **terms), judged_by)
    assert isinstance(verdict, Reject), verdict
    assert held == Holding(order.blocked_paise, order.exposure_paise)
    return verdict.code


@pytest.mark.parametrize(
    ("terms", "code"),
    [
        ({"price": PRICE + Decimal("0.01")}, "TICK_SIZE"),
        ({"price": PRICE * 2}, "PRICE_BAND"),
        ({"order_type": OrderType.SL}, "PRICE_TERMS"),
        ({"order_type": OrderType.SL, "trigger_price": PRICE + 5}, "TRIGGER_RELATION"),
        ({"quantity": an_instrument("NSE:INFY").freeze_quantity + 1}, "FREEZE_QUANTITY"),
        ({"disclosed_quantity": 10}, "DISCLOSED_QUANTITY"),
    ],
)
def test_a_rule_that_the_new_terms_break(terms: dict[str, Any], code: str) -> None:
    assert refused(resting(), facts(), **terms) == code


def test_a_contract_changes_by_whole_lots() -> None:
    order = a_derivative_order("NFO:NIFTY26DEC24500CE", price=Decimal(470))

    assert refused(order, facts(), quantity=order.quantity + 1) == "LOT_SIZE"


def test_every_limit_that_is_passed_is_named() -> None:
    order = resting()
    limits: dict[str, Any] = {
        "order_value_max": Money(order.exposure_paise),
        "quantity_max": 10,
        "modify_quantity_delta_max_ppm": 500_000,
        "modify_price_delta_max_ppm": 10_000,
    }

    verdict, _ = decide(order, replace(order, quantity=16, price=PRICE - 40), facts(**limits))

    assert isinstance(verdict, Reject)
    assert verdict.code == "RISK_LIMIT"
    assert [reason.split()[0] for reason in verdict.reasons] == ["order", "quantity", "quantity", "price"]
    assert "more than 50 % from the 10 it is for" in verdict.reasons[2]
    assert "more than 1 % from" in verdict.reasons[3]


@pytest.mark.parametrize(
    ("terms", "limits", "code"),
    [
        ({"quantity": 12}, {"modify_quantity_delta_max_ppm": 200_000}, None),
        ({"quantity": 13}, {"modify_quantity_delta_max_ppm": 200_000}, "MODIFY_QUANTITY_DELTA"),
        ({"quantity": 7}, {"modify_quantity_delta_max_ppm": 200_000}, "MODIFY_QUANTITY_DELTA"),
        ({"quantity": 11}, {"modify_quantity_delta_max_ppm": 0}, "MODIFY_QUANTITY_DELTA"),
        ({"price": PRICE - Decimal("11.2")}, {"modify_price_delta_max_ppm": 10_000}, None),
        ({"price": PRICE - Decimal("11.3")}, {"modify_price_delta_max_ppm": 10_000}, "MODIFY_PRICE_DELTA"),
        ({"order_type": OrderType.MARKET, "price": None}, {"modify_price_delta_max_ppm": 0}, None),
    ],
)
def test_how_far_one_modify_may_go(terms: dict[str, Any], limits: dict[str, Any], code: str | None) -> None:
    order = resting()
    verdict, _ = decide(order, replace(order, **terms), facts(**limits))

    assert (verdict.code if isinstance(verdict, Reject) else None) == code


def test_a_trigger_moves_no_further_than_a_price_may() -> None:
    order = resting(order_type=OrderType.SL, trigger_price=PRICE - 10)

    assert refused(order, facts(modify_price_delta_max_ppm=1_000), trigger_price=PRICE - 20) == "MODIFY_PRICE_DELTA"


@pytest.mark.parametrize("terms", [{"quantity": 9}, {"price": PRICE - 10}])
def test_what_is_made_smaller_fits_whatever_was_lowered(terms: dict[str, Any]) -> None:
    order, account = resting(), totals(limit_paise=0, blocked_paise=10**9, exposure_paise=10**9)
    lowered: dict[str, Any] = {
        "order_value_max": Money(1),
        "quantity_max": 1,
        "exposure_max": Money(1),
        "restricted": frozenset({"NSE:INFY"}),
    }

    verdict, held = decide(order, replace(order, **terms), facts(account, **lowered))

    assert isinstance(verdict, Proceed)
    assert held.blocked < order.blocked_paise
    assert (account.blocked_paise, account.exposure_paise) == (10**9, 10**9)  # until the book shows it


def test_a_restricted_instrument_gets_no_larger_order() -> None:
    assert refused(resting(), facts(restricted=frozenset({"NSE:INFY"})), quantity=11) == "RESTRICTED"


def test_exposure_counts_by_the_difference() -> None:
    order = resting()
    account = totals(exposure_paise=order.exposure_paise)
    more = order.exposure_paise // 10

    assert isinstance(
        decide(order, replace(order, quantity=11), facts(account, exposure_max=Money(order.exposure_paise + more)))[0], Proceed
    )
    account = totals(exposure_paise=order.exposure_paise)
    limit = Money(order.exposure_paise + more - 1)
    assert refused(order, facts(account, exposure_max=limit), quantity=11) == "RISK_LIMIT"


def test_margin_counts_by_the_difference_and_the_next_one_finds_less() -> None:
    first, second = resting(), resting()
    held = first.blocked_paise
    more = holding(replace(first, quantity=12), an_instrument("NSE:INFY"), facts()).blocked - held
    account = totals(limit_paise=2 * held + more, blocked_paise=2 * held)

    verdict, needs = decide(first, replace(first, quantity=12), facts(account))

    assert isinstance(verdict, Proceed)
    assert (needs.blocked, account.blocked_paise) == (held + more, account.limit_paise)
    assert refused(second, facts(account), quantity=11) == "MARGIN_ESTIMATE"


def test_a_new_order_and_a_modify_to_it_need_the_same() -> None:
    order = resting(product=Product.MIS, side=Side.SELL)
    _, needs = decide(order, replace(order, quantity=30), facts())
    placed = an_order(quantity=30, price=PRICE, product=Product.MIS, side=Side.SELL)
    margin.decide(placed, margin_facts())

    assert needs.blocked == placed.blocked_paise


def test_after_the_cut_off_an_intraday_order_gets_no_larger() -> None:
    order, late = resting(product=Product.MIS), ist("2026-11-23 15:05")

    assert refused(order, facts(at=late), quantity=11) == "MIS_CUTOFF"
    assert isinstance(decide(order, replace(order, quantity=9), facts(at=late))[0], Proceed)


def test_nothing_is_modified_while_the_market_is_closed() -> None:
    assert refused(resting(), facts(at=ist("2026-11-23 20:00")), quantity=9) == "MARKET_CLOSED"


def test_an_instrument_that_is_gone() -> None:
    assert refused(an_order("NSE:GONE"), facts(), quantity=9) == "UNKNOWN_INSTRUMENT"


def test_a_market_order_that_gets_a_limit_leaves_its_protection() -> None:
    order = resting(order_type=OrderType.MARKET, price=None, market_protection=Decimal(3))

    assert isinstance(decide(order, replace(order, order_type=OrderType.LIMIT, price=PRICE), facts())[0], Proceed)
