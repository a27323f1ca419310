"""Accepting: an intent once per key, whatever process asks, and however often; all of it written down or none."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import psycopg
import pytest
from house import BROKER, House, eventually, intake_engine
from proxies import Proxy
from sqlalchemy import event

from domain.errors import KeyReused, KeySpent, Overloaded, StoreAway
from domain.ids import new_id
from domain.intents import Acceptance
from pipeline.admission import Admission
from pipeline.intake import Intake
from store import commands, orders, settings


@pytest.fixture
def wire(house: House) -> Iterator[Proxy]:
    proxy = Proxy(house.database_url)
    yield proxy
    proxy.close()


def told(answer: Future[Acceptance]) -> tuple[str, tuple[str, ...]]:
    acceptance = answer.result(15)
    return acceptance.intent_id, tuple(line.order_id for line in acceptance.lines)


def counts(house: House) -> list[tuple[Any, ...]]:
    return house.rows(
        "select (select count(*) from intents), (select count(*) from orders), (select count(*) from commands),"
        " (select count(*) from order_events)"
    )


def test_an_intent_is_durable_whole_when_it_is_answered(house: House) -> None:
    acceptance = house.intake().submit(house.submission(3)).result(15)

    assert counts(house) == [(1, 3, 3, 3)]
    assert [line.correlation_id for line in acceptance.lines] == ["c0", "c1", "c2"]
    assert not acceptance.replayed
    house.check()


def test_sixty_four_first_uses_of_one_key_in_two_processes_are_one_execution(house: House) -> None:
    first, second = house.intake(), house.intake()
    submissions = [house.submission(2, key="one-key-for-all-of-them") for _ in range(64)]
    start = threading.Barrier(8)
    answers: list[Future[Acceptance]] = []

    def submit(number: int) -> None:
        start.wait()
        for index in range(number, 64, 8):
            answers.append((first, second)[index % 2].submit(submissions[index]))

    threads = [threading.Thread(target=submit, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len({told(answer) for answer in answers}) == 1
    assert sum(not answer.result().replayed for answer in answers) == 1
    assert counts(house) == [(1, 2, 2, 2)]


def test_a_key_is_answered_the_same_after_a_restart(house: House) -> None:
    submission = house.submission(2)
    first = house.intake().submit(submission).result(15)

    again = house.intake(house.desk()).submit(submission).result(15)

    assert again.replayed
    assert (again.intent_id, again.accepted_at, again.lines) == (first.intent_id, first.accepted_at, first.lines)


def test_another_request_under_the_same_key_is_refused(house: House) -> None:
    intake = house.intake()
    told(intake.submit(house.submission(key="a-key-used-once-0")))

    with pytest.raises(KeyReused):
        intake.submit(house.submission(key="a-key-used-once-0", fingerprint=b"x" * 32)).result(15)


def test_keys_belong_to_their_user(house: House) -> None:
    intake = house.intake()
    mine = house.submission(key="the-key-of-two-users")
    theirs = type(mine)(new_id(), mine.key_id, mine.idempotency_key, b"x" * 32, mine.request)

    assert told(intake.submit(mine)) != told(intake.submit(theirs))


def test_past_its_window_a_finished_key_is_spent_and_an_unfinished_one_is_replayed(house: House) -> None:
    intake, submission = house.intake(), house.submission(2)
    first = told(intake.submit(submission))
    house.run("update intents set window_until = now()")
    assert told(intake.submit(submission)) == first

    house.run("update orders set state = 'REJECTED' where line = 0")
    assert told(intake.submit(submission)) == first
    house.run("update orders set state = 'FILLED' where line = 1")
    with pytest.raises(KeySpent) as spent:
        intake.submit(submission).result(15)

    assert spent.value.intent_id == first[0]
    assert counts(house)[0][0] == 1


def test_inside_its_window_a_finished_key_is_replayed(house: House) -> None:
    intake, submission = house.intake(), house.submission()
    first = told(intake.submit(submission))
    house.run("update orders set state = 'REJECTED'")

    assert told(intake.submit(submission)) == first


class Held:
    """Keeps the thread of an intake busy, so that what is submitted meanwhile makes one batch."""

    def __init__(self, house: House, intake: Intake, monkeypatch: pytest.MonkeyPatch) -> None:
        self.batches: list[int] = []
        self._release, busy = threading.Event(), threading.Event()
        write = intake._written

        def written(batch: Any) -> Any:
            self.batches.append(len(batch))
            if not busy.is_set():
                busy.set()
                assert self._release.wait(10)
            return write(batch)

        monkeypatch.setattr(intake, "_written", written)
        intake.submit(house.submission())
        assert busy.wait(10)

    def release(self) -> None:
        self._release.set()


def test_a_key_twice_in_one_batch(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    intake = house.intake()
    held = Held(house, intake, monkeypatch)
    same = [intake.submit(house.submission(2, key="twice-in-one-batch")) for _ in range(2)]
    other = intake.submit(house.submission(2, key="twice-in-one-batch", fingerprint=b"x" * 32))
    held.release()

    assert told(same[0]) == told(same[1])
    with pytest.raises(KeyReused):
        other.result(15)
    assert held.batches == [1, 3]
    assert counts(house) == [(2, 3, 3, 3)]


def test_one_bad_submission_keeps_no_neighbour_back(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    intake = house.intake()
    held = Held(house, intake, monkeypatch)
    good = [intake.submit(house.submission()) for _ in range(2)]
    bad = house.submission()
    refused = intake.submit(type(bad)("no uuid", bad.key_id, bad.idempotency_key, bad.fingerprint, bad.request))
    good.append(intake.submit(house.submission()))
    held.release()

    assert len({told(answer) for answer in good}) == 3
    with pytest.raises(Exception, match="no uuid"):
        refused.result(15)
    assert counts(house)[0][0] == 4


def test_who_has_hung_up_harms_nobody(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    intake = house.intake()
    held = Held(house, intake, monkeypatch)
    gone, waiting = intake.submit(house.submission()), intake.submit(house.submission())
    assert gone.cancel()
    held.release()

    assert told(waiting)
    assert told(intake.submit(house.submission()))
    assert counts(house)[0][0] == 3


def test_a_database_that_goes_away_midway_leaves_nothing_half_written(
    house: House, wire: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    intake = house.intake(house.desk(database_url=wire.url))
    told(intake.submit(house.submission()))
    insert = orders.insert

    def cut_then_insert(*arguments: Any) -> None:
        wire.cut()
        insert(*arguments)

    monkeypatch.setattr(orders, "insert", cut_then_insert)
    submission = house.submission(2)
    with pytest.raises(StoreAway):
        intake.submit(submission).result(15)
    assert counts(house) == [(1, 1, 1, 1)]

    monkeypatch.undo()
    wire.mend()
    eventually(lambda: told_or_none(intake, submission))
    assert counts(house) == [(2, 3, 3, 3)]


def test_after_a_commit_in_doubt_the_same_key_is_safe(
    house: House, wire: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commit took, and its answer was lost."""
    desk = house.desk(database_url=wire.url)
    intake = house.intake(desk)
    told(intake.submit(house.submission()))
    commit = psycopg.Connection.commit

    def committed_then_cut(self: Any) -> None:
        commit(self)
        wire.cut()
        self.execute("select 1")

    submission = house.submission(2)
    monkeypatch.setattr("pipeline.desk.FRESH_S", 60.0)
    desk.forget()
    for read in (desk.settings, desk.user_settings):
        read()  # now, so that the next commit is the intake's
    monkeypatch.setattr(psycopg.Connection, "commit", committed_then_cut)
    with pytest.raises(StoreAway):
        intake.submit(submission).result(15)
    monkeypatch.undo()
    wire.mend()
    assert counts(house) == [(2, 3, 3, 3)]

    again = eventually(lambda: told_or_none(intake, submission))
    assert again.replayed
    assert counts(house) == [(2, 3, 3, 3)]


def told_or_none(intake: Intake, submission: Any) -> Acceptance | None:
    try:
        return intake.submit(submission).result(15)
    except StoreAway:
        return None


def test_a_lock_that_is_not_had_in_time_is_told_as_busy(house: House) -> None:
    desk = house.desk()
    event.listen(desk.store.engine, "connect", be_impatient)
    submission = house.submission()
    with house.store.unit() as unit:
        unit.run(
            "insert into intents (id, user_id, key_id, kind, idempotency_key, fingerprint, order_ids, accepted_at,"
            " window_until) values (%s, %s, %s, 'PLACE', %s, '', '{}', now(), now())",
            (new_id(), submission.user_id, submission.user_id, submission.idempotency_key),
        )
        with pytest.raises(StoreAway):
            house.intake(desk).submit(submission).result(15)


def be_impatient(connection: psycopg.Connection, _record: object) -> None:
    connection.execute("set lock_timeout = 50")
    connection.commit()


def test_while_too_much_waits_nothing_new_is_let_in_and_known_keys_are_answered(house: House) -> None:
    desk = house.desk()
    admission = Admission(desk)
    intake = Intake(desk, admission)
    known = house.submission()
    first = told(intake.submit(known))
    admission.look()
    assert admission.refuse() is None

    house.run("update commands set due_at = now() - interval '5 seconds'")
    admission.look()

    with pytest.raises(Overloaded):
        intake.submit(house.submission()).result(15)
    assert told(intake.submit(known)) == first
    intake_engine(house.desk()).run("validate", "-")
    house.run("update commands set due_at = now()")
    admission.look()
    told(intake.submit(house.submission()))
    intake.stop()


def test_what_waits_behind_a_slow_call_waits_for_its_broker_and_shuts_no_door(house: House) -> None:
    desk = house.desk()
    admission = Admission(desk)
    house.accept(2)
    house.run("update commands set stage = %s, due_at = now() - interval '5 seconds'", f"dispatch.{BROKER}")
    admission.look()
    assert admission.refuse() is not None  # nobody takes it: that is ours

    under_way = (
        "update commands set state = 'SENDING', lease_until = now() + make_interval(secs => %s)"
        " where order_id = (select min(order_id::text)::uuid from commands)"
    )
    lease_s = int(desk.settings().place_timeout_s + desk.settings().lease_margin_s)
    house.run(under_way, lease_s)
    admission.look()
    assert admission.refuse() is not None  # a call that has just begun explains no wait

    house.run(under_way, lease_s - 2)
    admission.look()
    assert admission.refuse() is None


def test_while_the_queue_is_away_a_number_of_rows_shuts_the_door_and_no_age(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.admission.COUNT_S", 0.0)
    with house.store.unit() as unit:
        settings.change(unit, "admission_rows", 3, by="me")
    desk = house.desk()
    admission = Admission(desk)
    house.accept(2)
    house.run("update commands set due_at = now() - interval '5 seconds'")
    admission.look()
    assert admission.refuse() is not None

    desk.wakeups.connected = False  # type: ignore[misc]
    admission.look()
    assert admission.refuse() is None

    house.accept(1)
    eventually(lambda: admission.look() or admission.refuse())
    house.run("update commands set due_at = now() + interval '1 minute' where stage = 'validate' and seq = 0")
    eventually(lambda: admission.look() or admission.refuse() is None)


def test_a_door_that_is_shut_goes_on_asking_whether_the_queue_is_there(house: House) -> None:
    desk = house.desk()
    admission = Admission(desk)
    house.accept(1)
    admission.look()
    assert desk.wakeups.woken == []  # type: ignore[attr-defined]

    house.run("update commands set due_at = now() - interval '1.5 seconds'")
    admission.look()
    assert desk.wakeups.woken == ["validate"]  # type: ignore[attr-defined]  # before the door would be shut for nothing

    desk.wakeups.connected = False  # type: ignore[misc]
    admission.look()
    assert desk.wakeups.woken == ["validate"] * 2  # type: ignore[attr-defined]


def test_rows_are_counted_as_far_as_is_needed(house: House) -> None:
    house.accept(3)
    with house.store.unit() as unit:
        due = [commands.are_due(unit, ("validate", "risk"), house.desk().now(), count) for count in (1, 3, 4)]
        assert not commands.are_due(unit, ("persist",), house.desk().now(), 1)

    assert due == [True, True, False]


def test_admission_goes_on_looking_after_an_error(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.admission.LOOK_S", 0.01)
    admission, looks = Admission(house.desk()), []

    def look() -> None:
        looks.append(1)
        raise ZeroDivisionError

    monkeypatch.setattr(admission, "look", look)
    admission.start()

    eventually(lambda: len(looks) >= 3)
    admission.stop()
    admission._thread.join()


def test_an_intake_whose_hands_are_full_says_so_before_it_is_given_more(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    intake = house.intake()
    assert intake.refuse() is None

    monkeypatch.setattr("pipeline.intake.WAITING_MAX", 0)

    assert intake.refuse() is not None
    with pytest.raises(Overloaded):
        intake.submit(house.submission()).result(5)


def test_an_intake_that_stopped_says_so(house: House) -> None:
    intake = house.intake()
    intake.stop()

    with pytest.raises(Overloaded):
        intake.submit(house.submission()).result(5)


def test_max_unsent_is_the_requests_own_or_the_settings(house: House) -> None:
    with house.store.unit() as unit:
        settings.change(unit, "max_unsent_s", 60, by="me")
    intake = house.intake()
    for submission in (house.submission(), house.submission(max_unsent_s=5)):
        told(intake.submit(submission))

    assert house.rows("select extract(epoch from send_before - accepted_at)::int from orders order by id") == [
        (60,),
        (5,),
    ]
