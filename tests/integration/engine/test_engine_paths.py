"""Every way an order can take: at each end its row is what its events say, and its account holds what is live."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from house import BROKER, FakeBroker, House, a_row, intake_engine

from domain.lifecycle import OrderState
from domain.outcomes import Accepted, BookRow, Fill, NotSent, Outcome, Refused, Unknown
from domain.verdicts import Proceed, Reject
from pipeline.books import BookReader
from pipeline.reports import apply_due

MOMENT = datetime(2026, 11, 23, 5, 0, tzinfo=UTC)
FREEZE = 89_000  # of NSE:INFY: one order may have no more


def walk(house: House, outcome: Outcome | None, lines: int = 1, **terms: Any) -> list[str]:
    """From the door to the end of the calls; gives the ids of the orders that were sent. None: each is accepted."""
    desk = house.desk(FakeBroker(None if outcome is None else lambda _: outcome))
    house.accept(lines, desk=desk, **terms)
    intake_engine(desk, margin=block).run("validate")
    ids = [row[0] for row in house.rows("select id from orders where slices = 0 order by id")]
    house.dispatcher(desk).pump()
    house.settled(ids)
    return ids


def block(order: Any, facts: Any) -> Proceed:
    """A margin of a hundred paise for each unit."""
    order.blocked_paise = 100 * order.quantity
    order.exposure_paise = 7 * order.quantity
    facts.totals[order.account_id].blocked_paise += order.blocked_paise
    return Proceed({"required_paise": order.blocked_paise})


def report(house: House, *rows: BookRow) -> None:
    broker = FakeBroker()
    broker.books["FK0001"] = rows
    BookReader(house.desk(broker), BROKER).read()
    apply_due(house.desk())


@pytest.mark.parametrize(
    ("outcome", "state", "command", "blocked"),
    [
        (Accepted("B1"), "SUBMITTED", "DONE", 1000),
        (Refused("RMS", 'margin ₹1,00,000 \\ "short"'), "REJECTED", "DONE", 0),
        (NotSent("no connection"), "RECEIVED", "READY", 1000),
        (Unknown("no whole answer in time"), "UNKNOWN", "UNKNOWN", 1000),
    ],
)
def test_an_outcome_becomes_the_state(house: House, outcome: Any, state: str, command: str, blocked: int) -> None:
    (order_id,) = walk(house, outcome)

    assert house.order(order_id).state == state
    assert house.command(order_id).state == command
    assert house.rows("select blocked_paise from accounts where id = 'FK0001'") == [(blocked,)]
    house.check()


@pytest.mark.parametrize("outcome", [Accepted("B1"), Unknown("reset")])
@pytest.mark.parametrize("end", ["FILLED", "CANCELLED", "REJECTED", "EXPIRED"])
@pytest.mark.parametrize("filled", [0, 4])
def test_every_end_frees_what_was_held_and_keeps_what_was_filled(
    house: House, outcome: Any, end: str, filled: int
) -> None:
    (order_id,) = walk(house, outcome)
    tag = house.order(order_id).broker_tag
    fills = tuple(Fill(f"T{number}", "NSE", 1, Decimal(1500), MOMENT) for number in range(filled))
    average = Decimal("1500.00005") if filled else None
    shown = {"broker_order_id": "B1", "filled_quantity": filled, "average_price": average, "fills": fills}

    report(house, a_row(tag, state=OrderState.OPEN, **shown))
    report(house, a_row(tag, state=OrderState(end), **shown))

    order = house.order(order_id)
    assert (order.state, order.filled_quantity) == (end, filled)
    assert house.rows("select blocked_paise, exposure_paise, open_orders from accounts where id = 'FK0001'") == [
        (0, 0, 0)
    ]
    assert house.rows("select count(*) from trades") == [(filled,)]
    house.check()


@pytest.mark.parametrize("stage", ["validate", "risk", "margin", "route"])
def test_a_refusal_by_any_stage_ends_the_order_and_takes_nothing(house: House, stage: str) -> None:
    (order_id,) = house.accept_many(1)
    refusal = Reject("NO", ("₹2 is over ₹1", "and more"))

    intake_engine(house.desk(), **{stage: lambda *_: refusal}).run("validate")

    order = house.order(order_id)
    assert (order.state, order.reason_code, order.reason) == ("REJECTED", "NO", "₹2 is over ₹1; and more")
    ((detail,),) = house.rows("select detail from order_events where order_id = %s and seq = 1", order_id)
    assert (detail["stage"], detail["verdicts"][-1]["code"]) == (stage, "NO")
    house.check()


@pytest.mark.parametrize(
    ("terms", "code"),
    [
        ({"account": "NOBODYS"}, "NO_ACCOUNT"),
        ({"account": None, "broker": "elsewhere"}, "NO_ACCOUNT"),
        ({"account": None}, "NO_ACCOUNT"),
    ],
)
def test_an_order_that_no_account_is_for_is_rejected(house: House, terms: Any, code: str) -> None:
    (order_id,) = house.accept_many(1, **terms)

    intake_engine(house.desk()).run("validate")

    assert (house.order(order_id).state, house.order(order_id).reason_code) == ("REJECTED", code)
    house.check()


def test_what_was_cancelled_or_late_before_intake_is_not_judged(house: House) -> None:
    cancelled, late = house.accept_many(2)
    house.run("update orders set cancel_requested = true where id = %s", cancelled)
    house.run("update orders set send_before = now() where id = %s", late)

    intake_engine(house.desk(), validate=lambda *_: Reject("JUDGED", ("it was",))).run("validate")

    assert [house.order(order_id).reason_code for order_id in (cancelled, late)] == [
        "CANCELLED_UNSENT",
        "EXPIRED_UNSENT",
    ]
    house.check()


def test_an_order_over_the_freeze_quantity_goes_out_in_slices_that_share_what_it_holds(house: House) -> None:
    ids = walk(house, None, quantity=2 * FREEZE + 1000)
    (parent,) = (row[0] for row in house.rows("select id from orders where slices > 0"))

    assert [house.order(order_id).quantity for order_id in ids] == [FREEZE, FREEZE, 1000]
    assert house.order(parent).state == "SUBMITTED"
    assert house.rows("select blocked_paise, open_orders from accounts where id = 'FK0001'") == [
        (100 * (2 * FREEZE + 1000), 3)
    ]
    house.check()

    tags = [house.order(order_id).broker_tag for order_id in ids]
    report(house, *filled(tags[:1], FREEZE, "1500"), *filled(tags[1:2], 1000, "1510", OrderState.CANCELLED))
    assert house.order(parent).state == "PARTIALLY_FILLED"
    report(house, *filled(tags[2:], 1000, "1520"))

    order = house.order(parent)
    average = (Decimal(1500) * FREEZE + Decimal(1510) * 1000 + Decimal(1520) * 1000) / (FREEZE + 2000)
    assert (order.state, order.filled_quantity) == ("CANCELLED", FREEZE + 2000)
    assert order.average_price == average.quantize(Decimal("0.0001"))
    assert house.rows("select blocked_paise, open_orders from accounts where id = 'FK0001'") == [(0, 0)]
    house.check()


def filled(
    tags: Sequence[str], quantity: int, average: str, state: OrderState = OrderState.FILLED
) -> tuple[BookRow, ...]:
    terms = {"filled_quantity": quantity, "average_price": Decimal(average), "state": state}
    return tuple(a_row(tag, **terms) for tag in tags)
