"""Cancels in trouble: a worker that dies with one, a lease that ends, an instruction that is stuck; and the verifier."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from datetime import timedelta
from types import ModuleType
from typing import Any

import pytest
from house import BookedBroker, House
from works import Works

from domain.commands import Command, CommandState
from domain.lifecycle import OrderState
from domain.orders import Order
from domain.outcomes import Refused, Unknown
from pipeline import changes, deadletters, stuck, verify
from pipeline.claims import open_claim
from pipeline.deadletters import By
from pipeline.drain import drain_part
from pipeline.refusals import Contradicted, MayHaveBeenSent, NotUnknown
from pipeline.sweep import Sweep
from store import changes as store_changes
from store import commands, reports
from store.stuck import Wanted
from store.unit import Unit

BY = By(operator="anna", reason="the cause is mended")


@pytest.fixture
def broker() -> BookedBroker:
    return BookedBroker()


@pytest.fixture
def works(house: House, broker: BookedBroker) -> Works:
    return Works(house, broker)


def swept(works: Works, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = Sweep(works.desk)
    monkeypatch.setattr(sweep._queue, "depth", lambda queue: (0, 0))
    monkeypatch.setattr(sweep._queue, "bury", lambda queue, body: True)
    sweep.run()
    sweep.close()


def dead_worker(works: Works, claim: Callable[[Unit], Sequence[Command]], stage: str) -> None:
    """A worker claims and dies before it commits: its claim stays open over unlocked rows."""
    with works.desk.store.unit() as unit:
        claimed = claim(unit)
        assert claimed
        open_claim(works.desk, stage, claimed)
        unit.connection.rollback()
    works.house.run("update claims set opened_at = opened_at - interval '1 minute'")


def stick(house: House, stage: str = "cancel") -> None:
    house.run("update commands set state = 'STUCK', live = false, stage = %s, error = 'not today' where seq = 1", stage)


def test_a_call_whose_worker_died_counts_as_unknown_and_is_asked_again_after_its_book_was_read(
    house: House, works: Works, broker: BookedBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    (order_id,) = works.place()
    answer = works.cancel(order_id)
    works.judge()
    calls = works.changer._first_step(8, [], works.changer._claim)  # committed; then the process is gone
    assert [call.broker_order_id for call in calls] == [f"B-{house.order(order_id).broker_tag}"]
    works.round()
    assert broker.cancels == []

    works.ahead += timedelta(seconds=20)  # the lease is over
    swept(works, monkeypatch)
    assert house.rows("select stage, state from commands where seq = 1") == [("cancel", "READY")]
    works.settle()

    assert (len(broker.cancels), works.results(answer)) == (1, [(0, "CANCELLED")])
    assert house.rows("select outcome from attempts where kind = 'CANCEL' order by number") == [(None,), ("ACCEPTED",)]
    house.check()


@pytest.mark.parametrize("stage", ["cancel", "dispatch.fake.cancel"])
def test_a_worker_that_dies_with_a_cancel_in_hand_costs_nothing(
    house: House, works: Works, broker: BookedBroker, stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (order_id,) = works.place()
    answer = works.cancel(order_id)
    if stage != "cancel":
        works.judge()
    now = works.desk.now()
    dead_worker(
        works, lambda unit: commands.claim(unit, stage, since=now - timedelta(days=1), now=now, limit=10), stage
    )

    swept(works, monkeypatch)

    assert house.rows("select seq, deaths from commands order by seq") == [(0, 0), (1, 1)]
    works.settle()
    assert (len(broker.cancels), works.results(answer)) == (1, [(0, "CANCELLED")])
    assert house.rows("select count(*) from claims") == [(0,)]


def test_a_cancel_that_kills_its_workers_is_stuck_and_its_order_goes_on(
    house: House, works: Works, broker: BookedBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    (order_id,) = works.place()
    works.cancel(order_id)
    house.run("update commands set deaths = 3 where seq = 1")
    dead_worker(works, lambda unit: commands.claim_suspect(unit, "cancel", works.desk.now()), "cancel")

    swept(works, monkeypatch)

    assert house.rows("select seq, state from commands order by seq") == [(0, "DONE"), (1, "STUCK")]
    assert house.rows("select detail ->> 'kind', detail ->> 'seq' from order_events where event_type = 'STUCK'") == [
        ("CANCEL", "1")
    ]
    broker.fill("FK0001", f"B-{house.order(order_id).broker_tag}", 10)
    works.look()
    assert house.order(order_id).state is OrderState.FILLED
    house.check()


def test_a_cancel_that_fails_again_and_again_is_stuck_listed_and_requeued(
    house: House, works: Works, broker: BookedBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = works.place(2)
    answer = works.cancel(*ids)
    decide = changes.decide_cancel

    def judge(order: Order, *given: Any) -> None:
        if order.id == ids[0]:
            raise RuntimeError("not today")
        decide(order, *given)

    monkeypatch.setattr(changes, "decide_cancel", judge)
    for _ in range(14):
        works.round()
        works.ahead += timedelta(seconds=20)

    assert works.results(answer) == [(0, None), (1, "CANCELLED")]
    (item,) = stuck.list_stuck(works.desk, Wanted(stage="cancel")).rows
    assert (item["orderId"], item["kind"], item["stage"]) == (ids[0], "CANCEL", "cancel")
    told = stuck.explain(works.desk, ids[0])
    assert {act["act"]: act["allowed"] for act in told["acts"]} == {
        "requeue": True,
        "settle": False,
        "discard": True,
        "park": True,
    }
    assert "asked for by intent" in told["why"]

    monkeypatch.setattr(changes, "decide_cancel", decide)
    done = deadletters.requeue(works.desk, ids[0], BY)

    assert (done["stage"], done["kind"], done["seq"]) == ("cancel", "CANCEL", 1)
    works.settle()
    assert works.results(answer) == [(0, "CANCELLED"), (1, "CANCELLED")]
    assert house.events(ids[0]).count("REQUEUED") == 1
    house.check()


def test_what_is_read_while_a_cancel_is_decided_is_waited_for(
    house: House, works: Works, broker: BookedBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broker refuses it: the order is filled, and the first read that shows it comes between two looks of the decision."""
    (order_id,) = works.place()
    broker.fill("FK0001", f"B-{house.order(order_id).broker_tag}", 10)
    answer = works.cancel(order_id)
    works.judge()
    works.ask()
    works.ahead += timedelta(seconds=60)
    after_the_first_look(works.reader.read, monkeypatch)
    works.judge()
    assert works.results(answer) == [(0, None)]
    monkeypatch.undo()

    works.settle()

    assert works.results(answer) == [(0, "FILLED")]
    assert "CANCEL_REFUSED" not in house.events(order_id)
    house.check()


def after_the_first_look(act: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """Something happens between the two questions that a decision asks of what books have shown, whichever comes first."""
    looks: list[str] = []

    def wrap(module: ModuleType, name: str) -> None:
        ask = getattr(module, name)

        def look(*given: Any) -> Any:
            told = ask(*given)
            looks.append(name)
            if len(looks) == 1:
                act()
            return told

        monkeypatch.setattr(module, name, look)

    wrap(store_changes, "reads_of")
    wrap(reports, "waiting_of")


def test_a_stuck_cancel_is_requeued_to_where_its_order_is_looked_at_first(
    house: House, works: Works, broker: BookedBroker
) -> None:
    works.cancel(*works.place())
    works.judge()
    stick(house, "dispatch.fake.cancel")

    part = drain_part(works.desk, "requeue", Wanted(), BY, after=None, limit=10)

    assert len(part["done"]) == 1
    assert house.rows("select stage, state from commands where seq = 1") == [("cancel", "READY")]


def test_a_stuck_cancel_may_be_given_up_and_asked_for_anew(house: House, works: Works, broker: BookedBroker) -> None:
    (order_id,) = works.place()
    first = works.cancel(order_id)
    stick(house)

    done = deadletters.discard(works.desk, order_id, BY)

    assert (done["kind"], done["result"], done["state"]) == ("CANCEL", "SKIPPED", "OPEN")
    assert works.results(first) == [(0, "SKIPPED")]
    assert house.rows("select reason_code from changes") == [("DISCARDED",)]
    assert house.events(order_id)[-1] == "CANCEL_WITHDRAWN"
    second = works.cancel(order_id)
    works.settle()
    assert works.results(second) == [(0, "CANCELLED")]
    house.check()


def test_a_cancel_that_a_broker_may_have_heard_of_or_that_holds_an_order_back_is_not_given_up(
    house: House, works: Works, broker: BookedBroker
) -> None:
    (resting,) = works.place()
    broker.on_cancel = lambda _: Unknown("no whole answer in time")
    works.cancel(resting)
    works.judge()
    works.ask()
    (waiting,) = works.received()
    works.cancel(waiting)
    stick(house)

    with pytest.raises(MayHaveBeenSent):
        deadletters.discard(works.desk, resting, BY)
    with pytest.raises(Contradicted):
        deadletters.discard(works.desk, waiting, BY)
    with pytest.raises(NotUnknown):
        deadletters.settle(works.desk, resting, BY, "seen", deadletters.NotTaken(resend=False))


def test_a_stuck_placement_comes_before_a_stuck_cancel_of_it(house: House, works: Works) -> None:
    (order_id,) = works.received()
    works.cancel(order_id)
    house.run("update commands set state = 'STUCK', live = false, error = 'not today'")

    done = deadletters.requeue(works.desk, order_id, BY)

    assert done["stage"] == "validate"
    assert house.command(order_id).state is CommandState.READY
    assert deadletters.requeue(works.desk, order_id, BY)["stage"] == "cancel"
    works.settle()
    assert house.order(order_id).state is OrderState.CANCELLED


def test_a_record_with_cancels_in_every_state_has_no_breach(house: House, works: Works, broker: BookedBroker) -> None:
    """While they are under way and when they are over: cancelled, refused, skipped, unsent, with slices."""
    ids = works.place(3)
    (sliced,) = works.place(quantity=100_000)
    (waiting,) = works.received()
    refused = f"B-{house.order(ids[0]).broker_tag}"
    broker.on_cancel = lambda number: Refused("NO", "not this one") if number == refused else None
    works.cancel(*ids, policy="FAIL_FAST")
    works.cancel(sliced, waiting)
    for _ in range(30):
        for part in works.parts():
            part()
            assert verify.verify(works.desk, queues=False).breaches == []
        works.ahead += timedelta(seconds=3)
        if not house.rows("select 1 from changes where result is null limit 1"):
            break

    assert sorted(house.rows("select distinct result from changes")) == [("CANCELLED",), ("REFUSED",), ("SKIPPED",)]
    house.check()


def test_everything_at_once_and_nobody_embraces(house: House, works: Works, broker: BookedBroker) -> None:
    """Orders, sliced ones among them, are placed, cut, sent, read and cancelled by two of each process at a time."""
    others = Works(house, broker)
    stop = threading.Event()
    raised: list[BaseException] = []

    def run(part: Callable[[], object]) -> None:
        while not stop.is_set():
            try:
                part()
            except BaseException as error:  # noqa: BLE001 - raised again below, in the test's own thread
                raised.append(error)
                return

    def place_and_cancel(own: Works) -> None:
        own.received(3)
        own.received(1, quantity=200_000)
        own.cancel(filter={"all": True})

    parts = [part for own in (works, others) for part in own.parts()[:5]]
    threads = [threading.Thread(target=run, args=(part,)) for part in parts]
    for thread in threads:
        thread.start()
    try:
        for _ in range(8):
            place_and_cancel(works)
    finally:
        for own in (works, others):
            own.ahead += timedelta(seconds=10)
        stop.set()
        for thread in threads:
            thread.join(30)
    assert raised == []
    works.cancel(filter={"all": True})
    works.settle()

    assert house.rows("select distinct state from orders") == [("CANCELLED",)]
    assert house.rows("select deadlocks from pg_stat_database where datname = current_database()") == [(0,)]
    assert {row.state for book in broker.books.values() for row in book} <= {OrderState.CANCELLED}  # type: ignore[union-attr]
    assert verify.verify(works.desk, queues=False).breaches == []
    house.check()
