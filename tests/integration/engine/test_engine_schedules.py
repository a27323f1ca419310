"""Schedules on the real record: what is due is begun once, what is late is told, what is removed is never begun."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from house import FakeBroker, House, eventually, utc_now

from domain.cancels import CancelSubmission
from domain.errors import KeyReused, Malformed, NotFound, ScheduleOver, StoreAway
from domain.ids import new_id
from domain.schedules import ScheduledCancel
from domain.squareoff import SquareOff
from pipeline import cancelling, schedules, squareoff
from pipeline.desk import Desk
from pipeline.firing import Firing
from pipeline.squareoff import Asked
from store import schedules as schedule_rows
from store import settings
from store.unit import Unit

MONDAY = datetime(2026, 11, 30, 6, 0, tzinfo=UTC)  # 11:30 in India, on a trading day


@pytest.fixture
def desk(house: House) -> Desk:
    return house.desk(FakeBroker())


def asked(house: House, key: str | None = None, fingerprint: bytes = b"s" * 32) -> Asked:
    return Asked(house.user_id, house.user_id, key or new_id(), fingerprint)


def ahead(**of_now: float) -> str:
    return (utc_now() + timedelta(**of_now)).isoformat(timespec="seconds")


def schedule(house: House, desk: Desk, key: str | None = None, **wanted: Any) -> dict[str, Any]:
    wanted = {"filter": {"all": True}, "at": ahead(minutes=5), **wanted}
    wanted = {name: value for name, value in wanted.items() if value is not None}
    return schedules.accept(desk, asked(house, key), ScheduledCancel.model_validate(wanted))


def at(desk: Desk, moment: datetime) -> None:
    """From now on the desk's clock shows that."""
    desk.now = lambda: moment  # type: ignore[method-assign]


def later(desk: Desk, **span: float) -> None:
    at(desk, utc_now() + timedelta(**span))


def states(desk: Desk, house: House, told: dict[str, Any]) -> list[str]:
    return [time["state"] for time in schedules.show(desk, house.user_id, told["scheduleId"])["times"]]


def cancelled(house: House) -> list[str]:
    return [row[0] for row in house.rows("select id from orders where cancel_requested order by id")]


def test_it_cancels_at_its_time_what_its_filter_means_then(house: House, desk: Desk) -> None:
    told = schedule(house, desk, filter={"instrument": "NSE:INFY"})
    after = house.accept(2).lines
    house.accept(1, instrument="NSE:TCS")

    assert Firing(desk).fire_due() == 0
    later(desk, minutes=5)
    assert Firing(desk).fire_due() == 1

    assert cancelled(house) == sorted(line.order_id for line in after)
    shown = schedules.show(desk, house.user_id, told["scheduleId"])
    assert (shown["status"], shown["times"][0]["matched"]) == ("FIRED", 2)
    assert house.rows("select kind from intents where id = %s", shown["times"][0]["intentId"]) == [("CANCEL",)]
    assert house.rows("select wanted ->> 'reason' from changes limit 1") == [(f"cancelled by schedule {told['scheduleId']}",)]
    house.check()


def test_where_nothing_is_meant_it_is_done_and_makes_no_intent(house: House, desk: Desk) -> None:
    told = schedule(house, desk)
    later(desk, minutes=5)

    Firing(desk).fire_due()

    shown = schedules.show(desk, house.user_id, told["scheduleId"])["times"][0]
    assert (shown["state"], shown["matched"], shown["intentId"]) == ("FIRED", 0, None)


def test_the_same_key_makes_one_schedule(house: House, desk: Desk) -> None:
    key, when = new_id(), ahead(minutes=5)

    first, second = schedule(house, desk, key, at=when), schedule(house, desk, key, at=when)

    assert second == {**first, "replayed": True}
    with pytest.raises(KeyReused):
        schedules.accept(desk, asked(house, key, b"t" * 32), ScheduledCancel.model_validate({"filter": {"all": True}, "at": when}))
    house.accept(1)
    placed = house.rows("select idempotency_key from intents where kind = 'PLACE'")[0][0]
    with pytest.raises(KeyReused):
        schedule(house, desk, placed)


@pytest.mark.parametrize(
    ("wanted", "code"),
    [
        ({"at": {"seconds": -1}}, "IN_THE_PAST"),
        ({"at": {"days": 30, "minutes": 1}}, "TOO_LARGE"),
        ({"at": {"minutes": 5}, "atSessionEnd": 5}, "CONTRADICTS"),
        ({"policy": "FAIL_FAST"}, "BAD_VALUE"),
        ({"filter": {}}, "EMPTY_FILTER"),
        ({"at": None, "lateBySec": 5}, "BAD_VALUE"),
    ],
)
def test_a_time_that_makes_no_sense_stores_nothing(house: House, desk: Desk, wanted: dict[str, Any], code: str) -> None:
    key = new_id()
    if isinstance(of_now := wanted.get("at"), dict):
        wanted = {**wanted, "at": ahead(**of_now)}  # of the moment at which it runs
    with pytest.raises(Malformed) as refused:
        schedule(house, desk, key, **wanted)

    assert [fault.code for fault in refused.value.faults] == [code]
    assert house.rows("select (select count(*) from schedules), (select count(*) from acts)") == [(0, 0)]


def test_what_could_not_be_begun_in_time_is_missed_and_told(house: House, desk: Desk) -> None:
    house.accept(1)
    told = schedule(house, desk, lateBySec=60)
    later(desk, minutes=6, seconds=1)

    Firing(desk).fire_due()
    Firing(desk).fire_due()

    assert (states(desk, house, told), cancelled(house)) == (["MISSED"], [])
    assert house.rows("select actor, action from audit_log where subject = %s order by id", told["scheduleId"]) == [
        (f"key {house.user_id}", "schedule.create"),
        ("clock", "schedule.missed"),
    ]


def test_after_a_short_outage_it_is_still_carried_out(house: House, desk: Desk) -> None:
    house.accept(1)
    told = schedule(house, desk, lateBySec=60)
    later(desk, minutes=5, seconds=55)

    Firing(desk).fire_due()

    assert (states(desk, house, told), len(cancelled(house))) == (["FIRED"], 1)


def test_two_clocks_at_the_same_moment_carry_it_out_once(
    house: House, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.accept(3)
    told = schedule(house, desk)
    later(desk, minutes=5)
    other = house.desk(FakeBroker())
    later(other, minutes=5)
    both_there = threading.Barrier(2, timeout=10)
    accept = cancelling.accept

    def accept_together(own: Desk, submission: CancelSubmission) -> Any:
        both_there.wait()  # each has begun it, and neither has asked for a cancel
        return accept(own, submission)

    monkeypatch.setattr(cancelling, "accept", accept_together)
    with ThreadPoolExecutor(2) as pool:
        over = [task.result() for task in [pool.submit(Firing(own).fire_due) for own in (desk, other)]]

    assert sorted(over) == [0, 1]
    assert states(desk, house, told) == ["FIRED"]
    assert house.rows("select count(*) from intents where kind = 'CANCEL'") == [(1,)]
    assert house.rows("select count(*) from changes") == [(3,)]


def test_a_death_after_the_cancels_were_accepted_repeats_nothing_and_is_never_too_late(
    house: House, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = [line.order_id for line in house.accept(2).lines]
    told = schedule(house, desk, lateBySec=60)
    later(desk, minutes=5)
    dies_after(monkeypatch, cancelling.accept)
    with pytest.raises(Died):
        Firing(desk).fire_due()
    monkeypatch.undo()
    assert states(desk, house, told) == ["FIRING"]
    new = house.accept(1).lines[0].order_id
    later(desk, hours=5)

    Firing(desk).fire_due()

    shown = schedules.show(desk, house.user_id, told["scheduleId"])["times"][0]
    assert (shown["state"], shown["matched"]) == ("FIRED", 2)
    assert cancelled(house) == sorted(first)
    assert house.rows("select count(*) from changes") == [(2,)]
    assert house.states([new]) == ["RECEIVED"]


def test_a_death_in_between_is_gone_on_from(house: House, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    house.accept(2)
    told = schedule(house, desk)
    later(desk, minutes=5)
    dies_after(monkeypatch, cancelling.accept)
    with pytest.raises(Died):
        Firing(desk).fire_due()
    monkeypatch.undo()

    Firing(desk).fire_due()

    shown = schedules.show(desk, house.user_id, told["scheduleId"])["times"][0]
    assert (shown["state"], shown["matched"], house.rows("select count(*) from changes")) == ("FIRED", 2, [(2,)])


class Died(BaseException):
    """What no handler of ours sees, as a kill isn't seen."""


def dies_after(monkeypatch: pytest.MonkeyPatch, accept: Callable[..., Any]) -> None:
    def accept_and_die(desk: Desk, submission: CancelSubmission) -> Any:
        accept(desk, submission)
        raise Died

    monkeypatch.setattr(cancelling, "accept", accept_and_die)


def test_a_user_may_have_so_many_to_come_and_is_told_how_many(
    house: House, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    with house.store.unit() as unit:
        settings.change(unit, "schedules_max", 3, by="me")
    desk.forget()
    a_position(house)
    squareoff.accept(desk, asked(house), SquareOff(all=True, cancel_open=True))  # what that leaves to be done isn't counted
    first, second = (schedule(house, desk)["scheduleId"] for _ in range(2))

    count, both_have_counted = schedule_rows.count_live, threading.Barrier(2)

    def count_together(unit: Unit, user_id: str) -> int:
        counted = count(unit, user_id)
        with suppress(threading.BrokenBarrierError):  # the other one counts when this one has written its own down
            both_have_counted.wait(0.5)
        return counted

    monkeypatch.setattr(schedule_rows, "count_live", count_together)
    with ThreadPoolExecutor(2) as pool:
        came = [task.exception() for task in [pool.submit(schedule, house, desk) for _ in range(2)]]
    monkeypatch.undo()

    refused = [error for error in came if error is not None]
    assert len(refused) == 1
    assert isinstance(refused[0], Malformed)
    assert refused[0].faults[0].code == "TOO_MANY"
    assert "/at: 3 of your schedules are to come" in str(refused[0])
    assert house.rows("select count(*) from acts where answer is not null") == [(4,)]
    schedules.remove(desk, asked(house), first)
    house.run("update schedules set user_id = %s where id = %s", new_id(), second)
    schedule(house, desk)
    schedule(house, desk)
    with pytest.raises(Malformed):
        schedule(house, desk)


@pytest.mark.parametrize("what", ["accept", "remove"])
def test_a_lock_that_is_not_had_in_time_is_told_as_one(
    house: House, desk: Desk, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """As StoreAway, which a client may repeat with the same key; psycopg's own error would be a defect of ours."""
    told = schedule(house, desk)
    monkeypatch.setattr(schedules, "TRIES", 1)
    asking: dict[str, Callable[[], Any]] = {
        "accept": lambda: schedule(house, desk),
        "remove": lambda: schedules.remove(desk, asked(house), told["scheduleId"]),
    }
    with house.store.unit() as holder:
        holder.rows("select id from schedules for update")
        holder.rows("select pg_advisory_xact_lock(7303, hashtext(%s))", (house.user_id,))
        with pytest.raises(StoreAway):
            asking[what]()

    assert states(desk, house, told) == ["PENDING"]


# None waits for another.


class FakeTime:
    """In place of `time` in a module: a monotonic clock that the test moves."""

    def __init__(self) -> None:
        self.at = 1_000.0

    def monotonic(self) -> float:
        return self.at


@pytest.fixture
def fake_time(monkeypatch: pytest.MonkeyPatch) -> FakeTime:
    fake = FakeTime()
    monkeypatch.setattr("pipeline.firing.time", fake)
    return fake


def fails_for(monkeypatch: pytest.MonkeyPatch, told: dict[str, Any], error: Exception) -> list[str]:
    """From now on accepting that schedule's cancel fails; gives the keys of all that were tried, as they come."""
    accept, tried = cancelling.accept, []

    def accept_or_fail(desk: Desk, submission: CancelSubmission) -> Any:
        tried.append(submission.idempotency_key)
        if told["scheduleId"] in submission.idempotency_key:
            raise error
        return accept(desk, submission)

    monkeypatch.setattr(cancelling, "accept", accept_or_fail)
    return tried


def test_those_that_wait_for_cancels_hide_no_other(house: House, desk: Desk) -> None:
    a_position(house)
    squareoff.accept(desk, asked(house), SquareOff(all=True, cancel_open=True))
    ((waiting,),) = house.rows("select id from schedules")
    for _ in range(25):
        house.run(
            "insert into schedules select gen_random_uuid(), part, user_id, key_id, kind, wanted, sessions, waits_for, due_at,"
            " late_by_s, state, detail, intent_id, matched, created_at, ended_at from schedules where id = %s",
            waiting,
        )
    told = schedule(house, desk, at=ahead(seconds=2))
    later(desk, seconds=3)

    assert Firing(desk).fire_due() == 1

    assert states(desk, house, told) == ["FIRED"]
    assert house.rows("select distinct state from schedules where kind = 'SQUARE_OFF'") == [("PENDING",)]


@pytest.mark.parametrize("error", [StoreAway("the database is busy"), RuntimeError("a defect")])
def test_one_that_fails_keeps_no_other_back_and_rests_before_it_is_tried_again(
    house: House, desk: Desk, monkeypatch: pytest.MonkeyPatch, fake_time: FakeTime, error: Exception
) -> None:
    house.accept(1)
    failing = schedule(house, desk, filter={"instrument": "NSE:INFY"}, lateBySec=86_400)
    house.accept(1, instrument="NSE:TCS")
    behind = schedule(house, desk, filter={"instrument": "NSE:TCS"}, lateBySec=5)
    later(desk, minutes=5)
    tried, firing = fails_for(monkeypatch, failing, error), Firing(desk)

    assert firing.fire_due() == 1
    assert (states(desk, house, failing), states(desk, house, behind)) == (["FIRING"], ["FIRED"])
    assert (firing.fire_due(), len(tried)) == (0, 2)
    for _ in range(8):
        fake_time.at += 10.1
        firing.fire_due()
    assert len(tried) == 10
    fake_time.at += 9.9
    firing.fire_due()
    assert len(tried) == 10

    monkeypatch.undo()
    assert Firing(desk).fire_due() == 1
    assert states(desk, house, failing) == ["FIRED"]


def test_a_row_that_somebody_holds_keeps_no_other_back(house: House, desk: Desk) -> None:
    """A lock that isn't had in three seconds is psycopg's own error."""
    house.accept(1)
    held, behind = schedule(house, desk), schedule(house, desk)
    later(desk, minutes=5)
    with house.store.unit() as holder:
        holder.rows("select 1 from schedules where id = %s for update", (held["scheduleId"],))
        assert Firing(desk).fire_due() == 1
        assert (states(desk, house, held), states(desk, house, behind)) == (["PENDING"], ["FIRED"])

    assert Firing(desk).fire_due() == 1
    assert states(desk, house, held) == ["FIRED"]


def test_one_that_takes_long_has_a_thread_to_itself(
    house: House, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.accept(1)
    slow, quick = schedule(house, desk), schedule(house, desk)
    later(desk, minutes=5)
    accept, let_go, begun = cancelling.accept, threading.Event(), threading.Event()

    def accept_slowly(own: Desk, submission: CancelSubmission) -> Any:
        if slow["scheduleId"] in submission.idempotency_key:
            begun.set()
            assert let_go.wait(10)
        return accept(own, submission)

    monkeypatch.setattr(cancelling, "accept", accept_slowly)
    firing = Firing(desk)
    try:
        firing.look()
        assert begun.wait(10)
        firing.look()
        eventually(lambda: states(desk, house, quick) == ["FIRED"])
        assert states(desk, house, slow) == ["FIRING"]
    finally:
        let_go.set()
        firing.close()
    assert states(desk, house, slow) == ["FIRED"]


def test_a_user_with_many_comes_after_one_who_has_none_under_way(house: House, desk: Desk) -> None:
    mine = [schedule(house, desk)["scheduleId"] for _ in range(3)]
    house.run("update schedules set user_id = %s where id = %s", stranger := new_id(), mine[2])
    later(desk, minutes=5)
    with desk.store.unit() as unit:
        first = schedule_rows.due(unit, desk.now(), desk.now())
        assert first is not None
        second = schedule_rows.due(unit, desk.now(), desk.now(), but=[(first.id, 0)], users=[first.user_id])

    assert (first.id, second and second.user_id) == (mine[0], stranger)


def test_what_is_removed_is_never_begun(house: House, desk: Desk) -> None:
    house.accept(1)
    told = schedule(house, desk)
    key = new_id()

    removed = schedules.remove(desk, asked(house, key), told["scheduleId"])
    again = schedules.remove(desk, asked(house, key), told["scheduleId"])
    later(desk, minutes=5)
    Firing(desk).fire_due()

    assert (removed["status"], again["replayed"]) == ("REMOVED", True)
    assert (states(desk, house, told), cancelled(house)) == (["REMOVED"], [])
    with pytest.raises(ScheduleOver):
        schedules.remove(desk, asked(house), told["scheduleId"])
    with pytest.raises(NotFound):
        schedules.remove(desk, asked(house), new_id())
    with pytest.raises(NotFound):
        schedules.remove(desk, Asked(new_id(), new_id(), new_id(), b"x"), told["scheduleId"])


def test_what_was_begun_can_not_be_removed(house: House, desk: Desk) -> None:
    told = schedule(house, desk)
    house.run("update schedules set state = 'FIRING'")

    with pytest.raises(ScheduleOver):
        schedules.remove(desk, asked(house), told["scheduleId"])


def test_they_are_listed_the_newest_first_and_only_to_their_user(house: House, desk: Desk) -> None:
    ids = [schedule(house, desk)["scheduleId"] for _ in range(3)]
    schedules.remove(desk, asked(house), ids[1])

    first, after = schedules.page(desk, house.user_id, live_only=False, limit=2, after=None)
    second, end = schedules.page(desk, house.user_id, live_only=False, limit=2, after=after)

    assert ([one["scheduleId"] for one in first + second], end) == (ids[::-1], None)
    live, _ = schedules.page(desk, house.user_id, live_only=True, limit=5, after=None)
    assert [one["scheduleId"] for one in live] == [ids[2], ids[0]]
    assert schedules.page(desk, new_id(), live_only=False, limit=5, after=None) == ([], None)
    assert len(schedules.page(desk, None, live_only=False, limit=5, after=None)[0]) == 3


# At a session's end.


@pytest.fixture
def at_exchanges(house: House, desk: Desk) -> Desk:
    """Two accounts at the exchanges, two simulated ones."""
    with house.store.unit() as unit:
        unit.run("update accounts set calendar = 'SIM'")
        unit.run("update accounts set calendar = 'NSE' where id in ('FK0001', 'FK0002')")
    at(desk, MONDAY)
    desk.forget()
    return desk


def test_before_the_end_of_each_session_its_own_instruments_orders_are_cancelled(
    house: House, at_exchanges: Desk
) -> None:
    desk = at_exchanges
    told = schedule(house, desk, at=None, atSessionEnd=10)
    times = {time["at"]: time["sessions"] for time in told["times"]}
    assert len(times) > 1
    assert told["leftOut"] == ["FK0003", "FK0004"]
    infy = next(when for when, sessions in times.items() if "NSE:CASH_WITH_DERIVATIVES" in sessions)
    assert "2026-11-30T09:" in infy or "2026-11-30T10:" in infy
    mine = house.accept(1).lines[0].order_id
    house.accept(1, account="FK0003")
    Firing(desk).fire_due()
    assert cancelled(house) == []

    at(desk, datetime.fromisoformat(infy))
    Firing(desk).fire_due()

    assert cancelled(house) == [mine]


def test_simulated_accounts_have_no_session_end(house: House, at_exchanges: Desk) -> None:
    for wanted in ({"filter": {"account": "FK0003"}}, {"filter": None, "orderIds": [house.accept(1, account="FK0003").lines[0].order_id]}):
        with pytest.raises(Malformed) as refused:
            schedule(house, at_exchanges, at=None, atSessionEnd=5, **wanted)
        assert [fault.code for fault in refused.value.faults] == ["NO_SESSION_END"]
    with pytest.raises(Malformed):
        schedule(house, at_exchanges, at=None, atSessionEnd=5, filter={"account": "XX0001"})
    with pytest.raises(Malformed):
        schedule(house, at_exchanges, at=None, atSessionEnd=5, filter={"instrument": "NSE:NOBODY"})


def test_anothers_order_tells_nothing_of_its_session(house: House, at_exchanges: Desk) -> None:
    mine = house.accept(1).lines[0].order_id
    theirs = house.accept(1, instrument="NFO:NIFTY-FUT", quantity=75, product="NRML").lines[0].order_id
    house.run("update orders set user_id = %s where id = %s", new_id(), theirs)

    together = schedule(house, at_exchanges, at=None, atSessionEnd=5, filter=None, orderIds=[mine, theirs])

    assert [time["sessions"] for time in together["times"]] == [["NSE:CASH_WITH_DERIVATIVES"]]
    told = []
    for order_id in (theirs, new_id()):
        with pytest.raises(Malformed) as refused:
            schedule(house, at_exchanges, at=None, atSessionEnd=5, filter=None, orderIds=[order_id])
        told.append(str(refused.value))
    assert told[0] == told[1]


def test_in_the_last_minutes_of_a_session_it_is_due_at_once(house: House, at_exchanges: Desk) -> None:
    told = schedule(house, at_exchanges, at=None, atSessionEnd=0, filter={"instrument": "NSE:INFY"})
    end = datetime.fromisoformat(told["times"][0]["at"])
    at(at_exchanges, end - timedelta(minutes=2))

    late = schedule(house, at_exchanges, at=None, atSessionEnd=5, filter={"instrument": "NSE:INFY"})

    assert datetime.fromisoformat(late["times"][0]["at"]) == end - timedelta(minutes=2)


# The rest of a square-off.


def a_position(house: House) -> None:
    """Ten bought, and a stop over all of them that is open."""
    bought, stop = house.accept(1, product="MIS").lines[0].order_id, house.accept(1, product="MIS", side="SELL").lines[0].order_id
    house.run("update orders set state = 'FILLED', filled_quantity = 10, account_id = 'FK0001', broker = 'fake' where id = %s", bought)
    house.run(
        "insert into trades (order_id, exchange, trade_id, user_id, broker, account_id, instrument, side, quantity, price, at)"
        " values (%s, 'NSE', 't1', %s, 'fake', 'FK0001', 'NSE:INFY', 'BUY', 10, 1500, now())",
        bought,
        house.user_id,
    )
    house.run("update orders set state = 'OPEN', account_id = 'FK0001', broker = 'fake' where id = %s", stop)


def test_a_square_off_cancels_what_is_open_and_closes_the_rest_when_that_has_ended(house: House, desk: Desk) -> None:
    a_position(house)
    wanted, key = SquareOff(all=True, cancel_open=True), new_id()

    answer = squareoff.accept(desk, asked(house, key), wanted)
    again = squareoff.accept(desk, asked(house, key), wanted)

    assert (answer.intent_id, len(answer.left), len(cancelled(house))) == (None, 1, 1)
    assert (again.schedule_id, again.cancel_intent_id, again.replayed) == (answer.schedule_id, answer.cancel_intent_id, True)
    Firing(desk).fire_due()
    assert house.rows("select state from schedules") == [("PENDING",)]
    house.run("update changes set result = 'CANCELLED'")
    house.run("update orders set state = 'CANCELLED' where state = 'OPEN'")

    Firing(desk).fire_due()

    closing = house.rows("select side, quantity from orders where state = 'RECEIVED'")
    assert (closing, house.rows("select state, matched from schedules")) == ([("SELL", 10)], [("FIRED", 1)])


def test_cancels_that_do_not_end_are_waited_for_no_longer_than_a_minute(house: House, desk: Desk) -> None:
    a_position(house)
    squareoff.accept(desk, asked(house), SquareOff(all=True, cancel_open=True))
    later(desk, seconds=61)

    Firing(desk).fire_due()

    ((state, detail),) = house.rows("select state, detail from schedules")
    assert (state, detail) == ("FIRED", "10 NSE:INFY of FK0001 stays: OPEN_ORDERS")
