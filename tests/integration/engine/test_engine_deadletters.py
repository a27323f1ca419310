"""What an operator may do with what is stuck or unknown, on the real record and the real dead-letter queues."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pika
import pytest
from dramatiq.common import dq_name, xq_name
from house import FakeBroker, House, eventually, intake_engine, outcome_engine

import pipeline.chain
from domain.errors import KeyReused, Malformed, NotFound
from domain.ids import new_id
from domain.lifecycle import OrderState
from domain.outcomes import Accepted, Outcome, Unknown
from domain.settlements import NotTaken, Taken
from domain.verdicts import Proceed
from pipeline import deadletters, letters
from pipeline.chain import queue_of
from pipeline.deadletters import By
from pipeline.drain import drain, drain_part
from pipeline.refusals import Contradicted, MayHaveBeenSent, NotStuck, NotUnknown
from pipeline.stages import persist
from pipeline.stuck import count_stuck, explain, list_stuck
from pipeline.sweep import Sweep
from store.acts import Once
from store.stuck import Wanted

logging.getLogger("pika").setLevel(logging.CRITICAL)
ASHA = By(operator="asha", reason="the rule is mended")
DYING = Path(__file__).with_name("dying_drain.py")
STUCK, UNKNOWN = Wanted(), Wanted(states=("UNKNOWN",))


@pytest.fixture
def channel(queue_url: str) -> Iterator[Any]:
    connection = pika.BlockingConnection(pika.URLParameters(queue_url))
    yield connection.channel()
    connection.close()


@pytest.fixture(autouse=True)
def queue(house: House, queue_url: str, monkeypatch: pytest.MonkeyPatch, channel: Any) -> Iterator[str]:
    """The house's queue, with queues of this test's own."""
    monkeypatch.setattr(pipeline.chain, "QUEUE_PREFIX", f"test.{new_id()[-12:]}.")
    house.queue_url = queue_url
    yield queue_url
    house.close()
    for stage in ("validate", "risk", "margin", "route", "persist", "dispatch.fake"):
        for name in (queue_of(stage), dq_name(queue_of(stage)), xq_name(queue_of(stage))):
            channel.queue_delete(name)


def stuck(house: House, count: int = 1, *, why: str = "a rule that can't be read", **terms: Any) -> list[str]:
    ids = house.accept_many(count, **terms)

    def judge(*_: Any) -> Proceed:
        raise ValueError(why)

    engine = intake_engine(house.desk(), risk=judge)
    for _ in range(3):
        house.due_now()
        engine.run("validate", "-")
    assert {house.command(order_id).state for order_id in ids} == {"STUCK"}
    return ids


def sent(house: House, outcome: Outcome, **terms: Any) -> str:
    """An order whose one call ended like that."""
    (order_id,) = house.accept_many(1, **terms)
    desk = house.desk(FakeBroker(lambda line: outcome))
    intake_engine(desk).run("validate")
    house.dispatcher(desk).pump()
    house.settled([order_id])
    return order_id


@pytest.fixture
def unknown(house: House) -> str:
    """An order of which nobody knows whether it was taken; its proof time is over."""
    order_id = sent(house, Unknown("timed out"))
    assert house.order(order_id).state == "UNKNOWN"
    house.run("update attempts set ended_at = ended_at - interval '1 hour', lease_until = lease_until - interval '1 hour'")
    return order_id


@pytest.fixture
def accepted_and_stuck(house: House, monkeypatch: pytest.MonkeyPatch) -> str:
    """An order that its broker took, and whose outcome could not become its state."""

    def settle(*_: Any) -> None:
        raise ValueError("a defect")

    with monkeypatch.context() as broken:
        broken.setattr(persist, "settle", settle)
        order_id = sent(house, Accepted("B1"))
        engine = outcome_engine(house.desk())
        for _ in range(10):
            house.due_now()
            engine.run("persist", "-")
    assert (house.command(order_id).state, house.command(order_id).stage) == ("STUCK", "persist")
    assert house.order(order_id).state == "SENDING"
    return order_id


def bury(house: House) -> None:
    sweep = Sweep(house.desk())
    sweep.run()
    sweep.close()


def buried(channel: Any, stage: str) -> list[str]:
    found = []
    while True:
        method, _, body = channel.basic_get(xq_name(queue_of(stage)))
        if method is None:
            break
        found.append(orjson.loads(body)["orderId"])
    channel.basic_recover(requeue=True)
    return found


def listed(house: House, wanted: Wanted = STUCK) -> list[str]:
    return [item["orderId"] for item in list_stuck(house.desk(), wanted).rows]


def audited(house: House) -> list[tuple[Any, ...]]:
    return house.rows("select actor, action, subject, detail ->> 'reason' from audit_log order by id")


# the list


def test_what_has_stopped_is_listed_by_stage_broker_account_and_error(house: House, unknown: str) -> None:
    (first,) = stuck(house, why="No Margin Rule")
    (second,) = stuck(house, account="FK0002")

    assert listed(house) == sorted([first, second])
    assert listed(house, Wanted(error="no margin rule")) == [first]
    assert listed(house, Wanted(account="FK0002")) == [second]
    assert listed(house, Wanted(stage="margin")) == []
    assert listed(house, Wanted(error="%")) == []
    assert listed(house, UNKNOWN) == [unknown]
    assert listed(house, Wanted(states=("UNKNOWN",), broker="fake")) == [unknown]
    assert count_stuck(house.desk(), Wanted(states=("STUCK", "UNKNOWN"))) == 3


def test_pages_of_what_is_stuck_hold_each_order_once(house: House) -> None:
    ids = stuck(house, 5)

    first = list_stuck(house.desk(), STUCK, limit=3)
    rest = list_stuck(house.desk(), STUCK, limit=3, after=first.rows[-1]["orderId"])

    assert [item["orderId"] for item in first.rows + rest.rows] == sorted(ids)
    assert first.next is not None
    assert rest.next is None


# back to its stage


def test_a_stuck_order_that_is_requeued_runs_and_its_letter_is_gone(house: House, channel: Any) -> None:
    first, second = stuck(house, 2)
    bury(house)

    deadletters.requeue(house.desk(), first, ASHA)
    letters.tidy(house.desk(), ["validate"])
    intake_engine(house.desk()).run("validate", "-")
    bury(house)

    assert buried(channel, "validate") == [second]
    assert house.command(first).stage == "dispatch.fake"
    assert house.events(first) == ["RECEIVED", "STUCK", "REQUEUED", "CLEARED"]
    assert audited(house) == [("asha", "dlq.requeue", first, "the rule is mended")]
    house.check()


def test_an_order_that_is_stuck_again_gets_a_letter_again(house: House, channel: Any) -> None:
    (order_id,) = stuck(house)
    bury(house)
    deadletters.requeue(house.desk(), order_id, ASHA)
    letters.tidy(house.desk(), ["validate"])
    assert buried(channel, "validate") == []

    def judge(*_: Any) -> Proceed:
        raise ValueError("still")

    engine = intake_engine(house.desk(), risk=judge)
    for _ in range(3):
        house.due_now()
        engine.run("validate", "-")
    bury(house)

    assert buried(channel, "validate") == [order_id]


def test_an_outcome_that_was_stuck_after_its_call_is_taken_up_again(house: House, accepted_and_stuck: str) -> None:
    told = deadletters.requeue(house.desk(), accepted_and_stuck, ASHA)
    outcome_engine(house.desk()).run(told["stage"], "-")

    assert house.order(accepted_and_stuck).state == "SUBMITTED"
    house.check()


def test_what_was_sent_is_not_sent_again_by_an_operator_and_not_given_up(
    house: House, accepted_and_stuck: str
) -> None:
    with pytest.raises(MayHaveBeenSent):
        deadletters.discard(house.desk(), accepted_and_stuck, ASHA)

    house.run("update commands set stage = 'dispatch.fake'")
    with pytest.raises(MayHaveBeenSent):
        deadletters.requeue(house.desk(), accepted_and_stuck, ASHA)
    assert audited(house) == []


def test_what_is_unknown_is_neither_sent_back_nor_given_up(house: House, unknown: str) -> None:
    with pytest.raises(MayHaveBeenSent, match="its book is searched"):
        deadletters.requeue(house.desk(), unknown, ASHA)
    with pytest.raises(MayHaveBeenSent):
        deadletters.discard(house.desk(), unknown, ASHA)


def test_what_a_broker_has_just_spoken_of_waits_for_that(house: House) -> None:
    (order_id,) = stuck(house)
    house.run(
        "insert into reports (order_id, digest, source, body, received_at, due_at)"
        " values (%s, 'x', 'POLL', '{}', now(), now())",
        order_id,
    )

    with pytest.raises(MayHaveBeenSent, match="just being applied"):
        deadletters.requeue(house.desk(), order_id, ASHA)


def test_an_operator_is_refused_what_is_not_stuck_or_not_there(house: House) -> None:
    (order_id,) = house.accept_many(1)

    with pytest.raises(NotStuck):
        deadletters.requeue(house.desk(), order_id, ASHA)
    with pytest.raises(NotFound):
        deadletters.requeue(house.desk(), new_id(), ASHA)


# given up


def test_a_stuck_order_that_is_given_up_is_rejected(house: House) -> None:
    (order_id,) = stuck(house)

    deadletters.discard(house.desk(), order_id, ASHA)

    assert (house.order(order_id).state, house.order(order_id).reason_code) == ("REJECTED", "DISCARDED")
    assert house.command(order_id).state == "DONE"
    assert audited(house) == [("asha", "dlq.discard", order_id, "the rule is mended")]
    house.check()


def test_what_was_never_taken_is_freed_when_it_is_given_up(house: House, accepted_and_stuck: str) -> None:
    house.run("update attempts set outcome = 'NOT_SENT'")

    deadletters.discard(house.desk(), accepted_and_stuck, ASHA)

    assert house.order(accepted_and_stuck).state == "REJECTED"
    house.check()


# settled


@pytest.mark.parametrize(
    ("state", "filled", "average"),
    [("FILLED", 10, "1499.95"), ("OPEN", 0, None), ("CANCELLED", 3, "1500.00"), ("PARTIALLY_FILLED", 9, "1500"), ("REJECTED", 0, None)],
)
def test_what_an_operator_has_found_of_an_unknown_order_becomes_its_state(
    house: House, unknown: str, state: str, filled: int, average: str | None
) -> None:
    found = Taken(
        broker_order_id="26112500017",
        state=OrderState(state),
        filled_quantity=filled,
        average_price=Decimal(average) if average else None,
    )

    told = deadletters.settle(house.desk(), unknown, ASHA, "order book, page 2, 10:31", found)

    order = house.order(unknown)
    assert (order.state, order.filled_quantity, order.broker_order_id) == (state, filled, "26112500017")
    assert (told["state"], told["said"]) == (state, "TAKEN")
    assert house.command(unknown).state == "DONE"
    source, detail = house.rows(
        "select source, detail from order_events where order_id = %s and event_type = 'SETTLED'", unknown
    )[0]
    assert (source, detail["operator"], detail["evidence"]) == ("OPERATOR", "asha", "order book, page 2, 10:31")
    assert audited(house) == [("asha", "dlq.settle", unknown, "the rule is mended")]
    assert listed(house, UNKNOWN) == []
    house.check()


def test_what_the_broker_has_not_taken_is_rejected_and_frees_what_it_held(house: House, unknown: str) -> None:
    deadletters.settle(house.desk(), unknown, ASHA, "no such tag in the book", NotTaken())

    order = house.order(unknown)
    assert (order.state, order.reason_code, order.blocked_paise) == ("REJECTED", "NOT_TAKEN", 0)
    house.check()


def test_what_the_broker_has_not_taken_goes_on_where_the_operator_wants_that(house: House, unknown: str) -> None:
    broker = FakeBroker()
    deadletters.settle(house.desk(), unknown, ASHA, "no such tag in the book", NotTaken(resend=True))
    assert house.order(unknown).state == "RECEIVED"

    house.due_now()
    house.dispatcher(house.desk(broker)).pump("-")
    house.settled([unknown])

    assert broker.tags == [house.order(unknown).broker_tag]
    assert house.order(unknown).state == "SUBMITTED"
    house.check()


def test_nothing_is_called_not_taken_while_the_broker_may_still_take_it(house: House) -> None:
    order_id = sent(house, Unknown("timed out"))

    with pytest.raises(MayHaveBeenSent, match="may still take"):
        deadletters.settle(house.desk(), order_id, ASHA, "nothing there", NotTaken())


def test_an_operator_can_not_settle_against_the_record(house: House, accepted_and_stuck: str) -> None:
    house.run("update attempts set lease_until = lease_until - interval '1 hour', ended_at = ended_at - interval '1 hour'")

    with pytest.raises(Contradicted, match="ACCEPTED as B1"):
        deadletters.settle(house.desk(), accepted_and_stuck, ASHA, "nothing there", NotTaken())
    other = Taken(broker_order_id="B2", state=OrderState.OPEN)
    with pytest.raises(Contradicted):
        deadletters.settle(house.desk(), accepted_and_stuck, ASHA, "there", other)

    deadletters.settle(house.desk(), accepted_and_stuck, ASHA, "there", Taken(broker_order_id="B1", state=OrderState.OPEN))
    assert house.order(accepted_and_stuck).state == "OPEN"
    house.check()


@pytest.mark.parametrize(
    ("state", "filled", "average"),
    [("FILLED", 9, "1500"), ("FILLED", 10, None), ("OPEN", 11, "1500"), ("REJECTED", 1, "1500"), ("PARTIALLY_FILLED", 0, None), ("OPEN", 0, "1500"), ("RECEIVED", 0, None)],
)
def test_figures_that_can_not_be_true_are_refused(
    house: House, unknown: str, state: str, filled: int, average: str | None
) -> None:
    found = Taken(
        broker_order_id="1",
        state=OrderState(state),
        filled_quantity=filled,
        average_price=Decimal(average) if average else None,
    )

    with pytest.raises(Malformed):
        deadletters.settle(house.desk(), unknown, ASHA, "seen", found)


def test_what_is_known_can_not_be_settled(house: House) -> None:
    (order_id,) = stuck(house)

    with pytest.raises(NotUnknown):
        deadletters.settle(house.desk(), order_id, ASHA, "seen", NotTaken())


# parked


def test_what_is_parked_leaves_the_list_for_a_time_and_stays_stuck(house: House, unknown: str) -> None:
    (order_id,) = stuck(house)
    desk = house.desk()

    deadletters.park(desk, order_id, ASHA, desk.now() + timedelta(hours=1))
    deadletters.park(desk, unknown, ASHA)

    assert listed(house) == listed(house, UNKNOWN) == []
    assert listed(house, Wanted(parked=True)) == [order_id]
    assert house.command(order_id).state == "STUCK"
    assert explain(desk, order_id)["item"]["parked"]["operator"] == "asha"

    house.run("update parkings set until = now() - interval '1 second' where until is not null")
    deadletters.unpark(desk, unknown, ASHA)

    assert (listed(house), listed(house, UNKNOWN)) == ([order_id], [unknown])
    assert [action for _, action, *_ in audited(house)] == ["dlq.park", "dlq.park", "dlq.unpark"]


def test_a_parking_ends_when_the_order_moves_on(house: House) -> None:
    (order_id,) = stuck(house)
    deadletters.park(house.desk(), order_id, ASHA)

    deadletters.requeue(house.desk(), order_id, ASHA)

    assert house.rows("select 1 from parkings") == []


# why, and what may be done


def allowed(document: Any) -> set[str]:
    return {act["act"] for act in document["acts"] if act["allowed"]}


def test_an_operator_is_told_why_and_what_may_safely_be_done(
    house: House, unknown: str, accepted_and_stuck: str
) -> None:
    (never_sent,) = stuck(house)
    desk = house.desk()

    first, second, third = (explain(desk, order_id) for order_id in (never_sent, unknown, accepted_and_stuck))

    assert "It was never sent" in first["why"]
    assert allowed(first) == {"requeue", "discard", "park"}
    assert "ended without a documented answer: timed out" in second["why"]
    assert allowed(second) == {"settle", "park"}
    assert second["search"]["looks"] == 0
    assert "attempt 1 ended ACCEPTED" in third["why"]
    assert allowed(third) == {"requeue", "settle", "park"}
    assert third["calls"][0]["answer"] == {"brokerOrderId": "B1"}
    with pytest.raises(NotFound):
        explain(desk, new_id())


# the same request twice


def test_the_same_request_gets_the_same_answer_and_is_done_once(house: House) -> None:
    (order_id,) = stuck(house)
    once = By(operator="asha", reason="mended", once=Once(house.user_id, "k" * 16, b"f"))

    first = deadletters.requeue(house.desk(), order_id, once)
    second = deadletters.requeue(house.desk(), order_id, once)

    assert second == {**first, "replayed": True}
    assert len(audited(house)) == 1
    other = By(operator="asha", reason="mended", once=Once(house.user_id, "k" * 16, b"g"))
    with pytest.raises(KeyReused):
        deadletters.requeue(house.desk(), order_id, other)


def test_a_refused_request_uses_up_no_key(house: House, unknown: str) -> None:
    once = By(operator="asha", reason="mended", once=Once(house.user_id, "k" * 16, b"f"))

    with pytest.raises(MayHaveBeenSent):
        deadletters.requeue(house.desk(), unknown, once)

    assert house.rows("select 1 from acts") == []


# many at once


def test_a_drain_does_what_matches_and_leaves_what_may_have_been_sent(
    house: House, channel: Any, accepted_and_stuck: str
) -> None:
    ids = stuck(house, 4)
    house.run("update commands set stage = 'dispatch.fake' where order_id = %s", accepted_and_stuck)
    bury(house)
    desk = house.desk()

    foretold = drain(desk, "requeue", STUCK, ASHA, dry=True)
    drained = drain(desk, "requeue", STUCK, ASHA)

    assert (foretold.done, foretold.refused) == (drained.done, drained.refused) == (4, 1)
    assert [(one["orderId"], one["code"]) for one in drained.refusals] == [(accepted_and_stuck, "MAY_HAVE_BEEN_SENT")]
    assert {house.command(order_id).state for order_id in ids} == {"READY"}
    assert (buried(channel, "validate"), buried(channel, "dispatch.fake")) == ([], [accepted_and_stuck])
    assert len(audited(house)) == 4
    house.check()


def test_a_dry_drain_changes_nothing(house: House) -> None:
    ids = stuck(house, 2)

    drain(house.desk(), "discard", STUCK, ASHA, dry=True)

    assert listed(house) == sorted(ids)
    assert audited(house) == []


def test_a_drain_goes_on_from_part_to_part(house: House) -> None:
    ids = sorted(stuck(house, 5))
    desk = house.desk()

    first = drain_part(desk, "discard", STUCK, ASHA, after=None, limit=3)
    second = drain_part(desk, "discard", STUCK, ASHA, after=first["last"], limit=3)

    assert (first["done"], first["last"]) == (ids[:3], ids[2])
    assert (second["done"], second["last"]) == (ids[3:], None)
    assert set(house.states(ids)) == {"REJECTED"}
    house.check()


def test_letters_are_compared_with_all_rows_however_many(
    house: House, channel: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(letters, "READ_MAX", 2)
    ids = stuck(house, 7)
    bury(house)
    for order_id in ids[:3]:
        deadletters.discard(house.desk(), order_id, ASHA)
    channel.basic_publish("", xq_name(queue_of("validate")), b"a message that was nobody's letter")

    assert letters.tidy(house.desk(), ["validate", "margin"]) == 4
    assert sorted(buried(channel, "validate")) == sorted(ids[3:])


POINTS = ("drain.before_part", "deadletters.before_commit", "deadletters.after_commit", "drain.after_part")


def a_drain(house: House, *, dies_at: str = "", pause_s: float = 0.0) -> subprocess.Popen[bytes]:
    prefix = pipeline.chain.QUEUE_PREFIX
    command = [sys.executable, str(DYING), house.database_url, house.queue_url, prefix, str(pause_s)]
    return subprocess.Popen(command, env={**os.environ, "CRASH_POINT": dies_at})


@pytest.mark.parametrize("dies_at", [*(f"{point}:3" for point in POINTS), "letters.before_ack:5", "any moment"])
def test_a_drain_killed_midway_loses_nothing_and_the_next_one_goes_on(
    house: House, channel: Any, dies_at: str
) -> None:
    ids = sorted(stuck(house, 20))
    bury(house)

    if dies_at == "any moment":
        dying = a_drain(house, pause_s=0.05)
        eventually(lambda: len(audited(house)) >= 6)
        dying.send_signal(signal.SIGKILL)
    else:
        dying = a_drain(house, dies_at=dies_at)
    assert dying.wait(30) == -signal.SIGKILL

    done = {order_id for order_id in ids if house.command(order_id).state == "READY"}
    assert len(done) < 20 or dies_at.startswith("letters")
    assert {house.command(order_id).state for order_id in ids if order_id not in done} <= {"STUCK"}
    assert {subject for *_, subject, _ in audited(house)} == done  # each act with its line, or neither
    left = eventually(lambda: len(found := buried(channel, "validate")) >= 20 - len(done) and found)
    assert set(left) >= set(ids) - done  # no letter of what is stuck is gone
    house.check()

    assert a_drain(house).wait(30) == 0

    assert {house.command(order_id).state for order_id in ids} == {"READY"}
    assert all(house.events(order_id).count("REQUEUED") == 1 for order_id in ids)
    assert sorted(subject for *_, subject, _ in audited(house)) == ids
    assert eventually(lambda: buried(channel, "validate") == [])
    house.check()
