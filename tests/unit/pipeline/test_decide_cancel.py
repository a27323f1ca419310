"""What follows for one cancel, state by state, with nothing but the order, the change and what is known of its book."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from domain.changes import Change, Result, Told
from domain.commands import Command, CommandKind, CommandState
from domain.lifecycle import OrderState
from domain.orders import Order, OrderType, Product, Side, Validity
from pipeline.batch import Batch
from pipeline.changes import BOOK_EVERY, LOOK_AGAIN, LOOK_AGAIN_FOR, WAIT_MAX, Facts, decide_cancel
from pipeline.failfast import Lines, Turn

NOW = datetime(2026, 11, 25, 5, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)
IN_TURN = {"mode": "HARD", "policy": "FAIL_FAST"}
LIVE = [OrderState.SUBMITTED, OrderState.OPEN, OrderState.TRIGGER_PENDING, OrderState.PARTIALLY_FILLED]


def an_order(state: OrderState, **given: object) -> Order:
    terms: dict[str, object] = {
        "id": "o1",
        "intent_id": "i0",
        "line": 0,
        "correlation_id": "c",
        "user_id": "u",
        "instrument": "NSE:INFY",
        "side": Side.BUY,
        "quantity": 10,
        "product": Product.CNC,
        "order_type": OrderType.LIMIT,
        "validity": Validity.DAY,
        "state": state,
        "broker": "upstox",
        "account_id": "A1",
        "broker_order_id": "B1",
        "cancel_requested": True,
        "changing": 1,
        "accepted_at": NOW,
        "send_before": NOW,
    }
    return Order(**{**terms, **given})  # type: ignore[arg-type]


def a_command(seq: int = 1, **given: object) -> Command:
    kind = CommandKind.CANCEL if seq else CommandKind.PLACE
    terms: dict[str, object] = {
        "order_id": "o1",
        "seq": seq,
        "kind": kind,
        "stage": "cancel",
        "state": CommandState.READY,
    }
    return Command(**{**terms, "due_at": NOW, **given})  # type: ignore[arg-type]


def a_change(**given: object) -> Change:
    terms: dict[str, object] = {"order_id": "o1", "seq": 1, "intent_id": "i1", "line": 0, "wanted": {"mode": "HARD"}}
    return Change(**{**terms, "asked_at": NOW - SECOND, **given})  # type: ignore[arg-type]


def decide(order: Order, change: Change, facts: Facts | None = None) -> tuple[Command, Batch]:
    command, batch = a_command(), Batch(at=NOW)
    batch.hold(order)
    decide_cancel(order, command, change, facts or Facts(), batch)
    return command, batch


@pytest.mark.parametrize(
    ("state", "result"),
    [
        (OrderState.CANCELLED, Result.CANCELLED),
        (OrderState.FILLED, Result.FILLED),
        (OrderState.REJECTED, Result.ENDED),
        (OrderState.EXPIRED, Result.ENDED),
    ],
)
def test_what_has_ended_is_the_last_word(state: OrderState, result: Result) -> None:
    order, change = an_order(state), a_change(told=Told.REFUSED)

    command, _ = decide(order, change)

    assert (change.result, command.state, order.changing) == (result, CommandState.DONE, 0)


@pytest.mark.parametrize("state", [OrderState.RECEIVED, OrderState.HELD])
def test_what_is_unsent_ends_here_with_what_the_request_gave_for_it(state: OrderState) -> None:
    order = an_order(state, broker_order_id=None)
    change, placement = a_change(wanted={"code": "HALTED", "reason": "halted"}), a_command(0)

    command, batch = decide(order, change, Facts(placement))

    assert (order.state, order.reason_code, order.reason) == (OrderState.CANCELLED, "HALTED", "halted")
    assert (change.result, command.state, placement.state) == (Result.CANCELLED, CommandState.DONE, CommandState.DONE)
    assert batch.wakes == set()


def test_an_unsent_order_whose_placement_another_has_is_looked_at_in_a_moment() -> None:
    order, change = an_order(OrderState.RECEIVED), a_change()

    command, _ = decide(order, change)

    assert (change.result, order.state, command.due_at) == (None, OrderState.RECEIVED, NOW + LOOK_AGAIN)


def test_it_looks_less_often_where_that_lasts() -> None:
    command, _ = decide(an_order(OrderState.RECEIVED), a_change(asked_at=NOW - LOOK_AGAIN_FOR * 2))

    assert command.due_at > NOW + SECOND


@pytest.mark.parametrize("state", [OrderState.SENDING, OrderState.UNKNOWN])
def test_nothing_is_told_while_nobody_knows_whether_the_broker_has_it(state: OrderState) -> None:
    order, change = an_order(state, broker_order_id=None), a_change()

    command, batch = decide(order, change, Facts(read_at=NOW, placement=a_command(0)))

    assert (change.result, command.stage, batch.wakes, batch.events) == (None, "cancel", set(), [])
    assert command.due_at > NOW


@pytest.mark.parametrize("state", LIVE)
@pytest.mark.parametrize(
    ("mode", "stage"), [("HARD", "dispatch.upstox.cancel"), ("SOFT", "dispatch.upstox.soft.cancel")]
)
def test_what_is_at_the_broker_is_asked_for(state: OrderState, mode: str, stage: str) -> None:
    command, batch = decide(an_order(state), a_change(wanted={"mode": mode}))

    assert (command.stage, command.due_at) == (stage, NOW)
    assert stage in batch.wakes


def test_a_soft_cancel_that_somebody_wants_done_now_goes_with_the_hard_ones() -> None:
    command, _ = decide(an_order(OrderState.OPEN), a_change(wanted={"mode": "SOFT", "urged_by": "i2"}))

    assert command.stage == "dispatch.upstox.cancel"


@pytest.mark.parametrize("told", [Told.ACCEPTED, Told.UNKNOWN, Told.REFUSED])
@pytest.mark.parametrize("read_at", [None, NOW - SECOND])
def test_no_answer_is_a_proof_and_neither_is_an_earlier_read(told: Told, read_at: datetime | None) -> None:
    change = a_change(told=told, proof_from=NOW - SECOND)

    command, batch = decide(an_order(OrderState.OPEN), change, Facts(read_at=read_at))

    assert (change.result, command.stage) == (None, "cancel")
    assert command.due_at > NOW
    assert batch.books == {"upstox"}


def test_the_longer_a_book_can_not_be_read_the_less_often_it_is_looked_at() -> None:
    change, at, pauses = a_change(told=Told.ACCEPTED, proof_from=NOW), NOW, list[timedelta]()
    while at < NOW + timedelta(minutes=5):
        command, batch = a_command(), Batch(at=at)
        decide_cancel(an_order(OrderState.OPEN), command, change, Facts(read_at=NOW - SECOND), batch)
        pauses.append(command.due_at - at)
        at = command.due_at
        assert batch.later == {"cancel": pauses[-1].total_seconds()}

    read = next(number for number in range(len(pauses)) if sum(pauses[:number], timedelta()) >= BOOK_EVERY)
    assert pauses[read:] == sorted(pauses[read:])
    assert (max(pauses), pauses[-1]) == (WAIT_MAX, WAIT_MAX)
    assert len(pauses) < 40


@pytest.mark.parametrize("told", [Told.ACCEPTED, Told.UNKNOWN])
def test_it_is_asked_again_once_a_later_read_shows_it_live(told: Told) -> None:
    change = a_change(told=told, proof_from=NOW - 2 * SECOND)

    command, _ = decide(an_order(OrderState.OPEN), change, Facts(read_at=NOW - SECOND))

    assert (change.result, command.stage) == (None, "dispatch.upstox.cancel")


def test_a_refusal_is_the_last_word_once_a_later_read_shows_it_live() -> None:
    order = an_order(OrderState.OPEN)
    change = a_change(told=Told.REFUSED, told_detail="upstox: too late (NO)", proof_from=NOW - 2 * SECOND)

    command, batch = decide(order, change, Facts(read_at=NOW - SECOND))

    assert (change.result, change.reason_code, change.reason) == (
        Result.REFUSED,
        "BROKER_REFUSED",
        "upstox: too late (NO)",
    )
    assert (command.state, order.cancel_requested, order.changing) == (CommandState.DONE, False, 0)
    assert [event.event_type for event in batch.events] == ["CANCEL_REFUSED"]


def test_what_was_not_heard_is_asked_again_without_a_read() -> None:
    command, _ = decide(an_order(OrderState.OPEN), a_change(told=Told.NOT_SENT, proof_from=NOW))

    assert command.stage == "dispatch.upstox.cancel"


def test_a_line_waits_for_its_turn_the_longer_the_further_back_it_is() -> None:
    near, _ = decide(an_order(OrderState.OPEN), a_change(), Facts(turn=Turn(behind=1)))
    far, _ = decide(an_order(OrderState.OPEN), a_change(), Facts(turn=Turn(behind=30)))

    assert (near.due_at, far.due_at) == (NOW + SECOND, NOW + 30 * SECOND)
    assert near.stage == far.stage == "cancel"


def test_a_line_whose_turn_it_is_not_ends_all_the_same_with_its_order() -> None:
    change = a_change()
    decide(an_order(OrderState.FILLED), change, Facts(turn=Turn(behind=3)))

    assert change.result is Result.FILLED


def test_a_skipped_line_takes_its_request_back() -> None:
    order, change = an_order(OrderState.OPEN), a_change()

    _, batch = decide(order, change, Facts(turn=Turn(is_skipped=True)))

    assert (change.result, order.cancel_requested) == (Result.SKIPPED, False)
    assert [event.event_type for event in batch.events] == ["CANCEL_WITHDRAWN"]


def test_a_line_that_was_asked_for_is_not_skipped() -> None:
    change = a_change(told=Told.ACCEPTED, proof_from=NOW)

    decide(an_order(OrderState.OPEN), change, Facts(turn=Turn(is_skipped=True)))

    assert change.result is None


@pytest.mark.parametrize("state", [OrderState.SENDING, OrderState.UNKNOWN])
def test_a_line_of_which_nobody_knows_is_not_skipped_yet(state: OrderState) -> None:
    """Its request must stay: once its absence is proven it is not to be sent again."""
    order, change = an_order(state, broker_order_id=None), a_change()

    decide(order, change, Facts(turn=Turn(is_skipped=True)))

    assert (change.result, order.cancel_requested) == (None, True)


def test_an_order_waits_for_its_slices_and_is_refused_where_one_of_them_lives_on() -> None:
    parent, change = an_order(OrderState.OPEN, slices=3), a_change()
    decide(parent, change, Facts(parts=1))
    assert change.result is None

    decide(parent, change, Facts(parts=0))
    assert (change.result, change.reason_code) == (Result.REFUSED, "SLICES_LIVE")


def test_an_order_whose_slices_this_batch_ends_is_summed_up_first() -> None:
    parent, change, batch = an_order(OrderState.OPEN, slices=1), a_change(), Batch(at=NOW)
    batch.touch(an_order(OrderState.CANCELLED, id="o2", parent_id="o1"), "changing")
    command = a_command()

    decide_cancel(parent, command, change, Facts(parts=0), batch)

    assert (change.result, command.due_at) == (None, NOW + LOOK_AGAIN)


def test_the_first_line_that_is_not_cancelled_ends_those_after_it_only() -> None:
    lines = Lines(
        [("i1", 0, "a", Result.CANCELLED), ("i1", 1, "b", None), ("i1", 2, "c", Result.FILLED), ("i1", 3, "d", None)]
    )

    assert lines.turn(a_change(line=1, wanted=IN_TURN)) == Turn()
    assert lines.turn(a_change(line=3, wanted=IN_TURN)) == Turn(is_skipped=True)
    assert lines.turn(a_change(line=3, wanted={**IN_TURN, "urged_by": "i2"})) == Turn()


def test_a_line_settled_in_the_same_batch_lets_the_next_one_go() -> None:
    lines = Lines([("i1", 0, "a", None), ("i1", 1, "b", None)])
    assert lines.turn(a_change(line=1, wanted=IN_TURN)) == Turn(behind=1)
    assert lines.turn(a_change(line=1, wanted={**IN_TURN, "urged_by": "i2"})) == Turn()

    first = a_change(line=0, order_id="a")
    first.settle(Result.CANCELLED, NOW)
    lines.settled(first)

    assert lines.turn(a_change(line=1, wanted=IN_TURN)) == Turn()


def test_other_intents_have_no_turns() -> None:
    assert Lines(()).turn(a_change(line=400)) == Turn()
