"""What has had its time goes, a few rows at a time; what a window or a key still needs stays."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from house import FakeBroker, House, utc_now
from signal_room import a_signal, a_strategy, deliver

from domain.ids import new_id
from pipeline import retention
from pipeline.desk import Desk
from pipeline.retention import forget_old
from store import acts, settings
from store.acts import Once


@pytest.fixture
def desk(house: House) -> Desk:
    return house.desk(FakeBroker())


def set_(house: House, desk: Desk, **values: Any) -> None:
    with house.store.unit() as unit:
        for name, value in values.items():
            settings.change(unit, name, value, by="me")
    desk.forget()


def delivered(house: House, status: str, days: float, nonce: str | None = None) -> str:
    signal_id = new_id()
    house.run(
        "insert into signals (id, strategy_id, at, status, nonce) values (%s, %s, now() - make_interval(secs => %s), %s, %s)",
        signal_id, new_id(), days * 86_400, status, nonce,
    )  # fmt: skip
    return signal_id


def scheduled(house: House, *ended_days: float | None) -> str:
    """A schedule of as many times, each of which ended so many days ago; None is to come."""
    schedule_id = new_id()
    for part, days in enumerate(ended_days):
        house.run(
            "insert into schedules (id, part, user_id, key_id, kind, wanted, due_at, late_by_s, state, created_at, ended_at)"
            " values (%s, %s, %s, %s, 'CANCEL', '{}', now(), 300, %s, now(), now() - make_interval(secs => %s))",
            schedule_id, part, house.user_id, house.user_id, "PENDING" if days is None else "FIRED",
            None if days is None else days * 86_400,
        )  # fmt: skip
    return schedule_id


def answered(house: House, days: float) -> Once:
    once = Once(house.user_id, new_id(), b"a" * 32)
    with house.store.unit() as unit:
        acts.begin(unit, once, utc_now())
        acts.keep(unit, once, {})
        unit.run("update acts set at = now() - make_interval(secs => %s) where idempotency_key = %s", (days * 86_400, once.key))
    return once


def ids(house: House, table: str) -> set[str]:
    return {row[0] for row in house.rows(f"select id from {table}")}  # noqa: S608


def test_deliveries_go_but_for_those_that_a_nonce_is_measured_by(house: House, desk: Desk) -> None:
    for status in ("REFUSED", "SUPPRESSED", "ACCEPTED"):
        delivered(house, status, 90.1)
    delivered(house, "REPLAYED", 90.1, nonce="n1")
    kept = {delivered(house, "REFUSED", 89.9), delivered(house, "ACCEPTED", 2_000, nonce="n1")}

    assert forget_old(desk) == 4

    assert ids(house, "signals") == kept
    set_(house, desk, signals_kept_days=30)
    assert forget_old(desk) == 1


def test_a_nonce_is_known_however_much_was_forgotten(house: House, desk: Desk) -> None:
    strategy_id, intake = a_strategy(house), house.intake()
    first = deliver(intake, a_signal(house, strategy_id, "n1"))
    deliver(intake, a_signal(house, strategy_id, "n1"))
    desk.now = lambda: utc_now() + timedelta(days=3_650)  # type: ignore[method-assign]

    assert forget_old(desk) == 2  # the replay, and the answer to who defined the strategy

    again = deliver(intake, a_signal(house, strategy_id, "n1"))
    assert (again.replayed, again.intent_id) == (True, first.intent_id)


def test_a_schedule_goes_as_a_whole_when_the_last_of_its_times_is_old(house: House, desk: Desk) -> None:
    scheduled(house, 120, 91)
    kept = {scheduled(house, 120, 89), scheduled(house, 120, None), scheduled(house, None)}

    assert forget_old(desk) == 2

    assert ids(house, "schedules") == kept
    assert house.rows("select count(*) from schedules") == [(5,)]


def test_answers_go_and_their_keys_stay_used(house: House, desk: Desk) -> None:
    old, young = answered(house, 91), answered(house, 89)

    assert forget_old(desk) == 1

    assert house.rows("select idempotency_key from acts") == [(young.key,)]
    assert {row[0] for row in house.rows("select idempotency_key from intents")} == {old.key, young.key}


def test_no_answer_goes_within_the_window_of_its_key(house: House, desk: Desk) -> None:
    answered(house, 20)
    answered(house, 31)
    set_(house, desk, answers_kept_days=1, idempotency_window_s=30 * 86_400)

    assert forget_old(desk) == 1


def test_one_run_takes_away_no_more_than_it_may(house: House, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(13):
        delivered(house, "REFUSED", 100 + number)
    monkeypatch.setattr(retention, "BATCH", 3)
    monkeypatch.setattr(retention, "BATCHES_MAX", 2)

    assert [forget_old(desk) for _ in range(4)] == [6, 6, 1, 0]


def test_what_is_old_is_found_by_its_age(house: House) -> None:
    """Whatever else there is, no more is read than is taken away."""
    for sql in (
        "select id from signals where at < now() and (status <> 'ACCEPTED' or nonce is null) order by at limit 5",
        "select user_id, idempotency_key from acts where at < now() order by at limit 5",
        "select id from schedules where ended_at < now() order by ended_at limit 5",
    ):
        plan = "\n".join(row[0] for row in house.rows(f"explain {sql}"))
        assert "_by_age" in plan, plan
        assert "Sort" not in plan, plan
