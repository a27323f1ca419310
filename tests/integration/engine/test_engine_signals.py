"""Signals become orders exactly once: under concurrency, within their window, by their nonce, and over every crash."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from house import House
from signal_room import a_signal, a_strategy, deliver

from domain.errors import NonceReused, NoSuchSignal, SignalsDisabled
from domain.ids import new_id
from domain.intents import Submission
from pipeline import crash
from pipeline.signals import Who, remove
from store.acts import Once


def outcomes(house: House) -> dict[str, int]:
    return dict(house.rows("select status, count(*) from signals group by status"))


class Late:
    """A clock that a test moves."""

    def __init__(self, desk: Any) -> None:
        self.later = timedelta()
        now: Callable[[], datetime] = desk.now
        desk.now = lambda: now() + self.later


def test_two_identical_signals_in_the_window_become_one_order(house: House) -> None:
    strategy_id, intake = a_strategy(house), house.intake()

    first, second = (deliver(intake, a_signal(house, strategy_id)) for _ in range(2))

    assert (first.replayed, second.replayed) == (False, True)
    assert second.intent_id == first.intent_id
    assert house.rows("select count(*) from orders") == [(1,)]
    assert outcomes(house) == {"ACCEPTED": 1, "SUPPRESSED": 1}
    assert house.rows("select distinct intent_id from signals") == [(first.intent_id,)]
    house.check()


def test_another_order_is_another_order(house: House) -> None:
    strategy_id, intake = a_strategy(house), house.intake()

    for body in ({}, {"contracts": 11}, {"action": "sell"}, {"price": "1120.05"}, {"price": 1120}):
        deliver(intake, a_signal(house, strategy_id, **body))

    assert house.rows("select count(*) from orders") == [(4,)]
    assert outcomes(house) == {"ACCEPTED": 4, "SUPPRESSED": 1}  # 1120 is 1120.00


def test_past_the_window_the_same_signal_is_a_new_order(house: House) -> None:
    strategy_id, desk = a_strategy(house), house.desk()
    clock, intake = Late(desk), house.intake(desk)
    first = deliver(intake, a_signal(house, strategy_id))
    clock.later = timedelta(seconds=59)
    inside = deliver(intake, a_signal(house, strategy_id))
    clock.later = timedelta(seconds=61)
    after = deliver(intake, a_signal(house, strategy_id))

    assert inside.intent_id == first.intent_id  # and what is suppressed doesn't make the window longer
    assert after.intent_id != first.intent_id
    assert not after.replayed


def test_a_nonce_makes_a_repeat_deliberate_and_the_same_nonce_is_a_replay(house: House) -> None:
    strategy_id, intake = a_strategy(house), house.intake()
    first = deliver(intake, a_signal(house, strategy_id))

    again, once_more, same = (
        deliver(intake, a_signal(house, strategy_id, nonce)) for nonce in ("n1", "n2", "n1")
    )

    assert len({first.intent_id, again.intent_id, once_more.intent_id}) == 3
    assert (same.replayed, same.intent_id) == (True, again.intent_id)
    assert deliver(intake, a_signal(house, strategy_id)).intent_id == once_more.intent_id
    with pytest.raises(NonceReused):
        deliver(intake, a_signal(house, strategy_id, "n1", contracts=11))
    assert outcomes(house) == {"ACCEPTED": 3, "REPLAYED": 1, "SUPPRESSED": 1, "REFUSED": 1}
    assert house.rows("select count(*) from orders") == [(3,)]


def test_a_nonce_is_known_after_its_window(house: House) -> None:
    strategy_id, desk = a_strategy(house), house.desk()
    clock, intake = Late(desk), house.intake(desk)
    first = deliver(intake, a_signal(house, strategy_id, "n1"))
    clock.later = timedelta(days=3)

    assert deliver(intake, a_signal(house, strategy_id, "n1")).intent_id == first.intent_id


def test_strategies_share_nothing(house: House) -> None:
    one, other, intake = a_strategy(house), a_strategy(house, "fade"), house.intake()

    intents = {deliver(intake, a_signal(house, strategy_id)).intent_id for strategy_id in (one, other)}

    assert len(intents) == 2


def test_a_strategy_that_is_off_or_gone_refuses_and_places_nothing(house: House) -> None:
    strategy_id, intake = a_strategy(house), house.intake()
    a_strategy(house, enabled=False)
    with pytest.raises(SignalsDisabled):
        deliver(intake, a_signal(house, strategy_id))
    remove(house.desk(), Who(house.user_id, "ada", "key", Once(house.user_id, new_id(), b"f")), "breakout")
    with pytest.raises(NoSuchSignal):
        deliver(intake, a_signal(house, strategy_id))

    assert house.rows("select 1 from intents where kind = 'PLACE'") == []
    assert outcomes(house) == {"REFUSED": 1}


@pytest.mark.parametrize("nonce", [None, "n1"])
def test_sixty_four_at_once_in_two_processes_are_one_order(house: House, nonce: str | None) -> None:
    strategy_id, intakes = a_strategy(house), [house.intake(), house.intake()]
    submissions = [a_signal(house, strategy_id, nonce) for _ in range(64)]

    with ThreadPoolExecutor(64) as pool:
        tasks = [pool.submit(deliver, intakes[number % 2], one) for number, one in enumerate(submissions)]
        answers = [task.result() for task in tasks]

    assert len({answer.intent_id for answer in answers}) == 1
    assert sum(not answer.replayed for answer in answers) == 1
    assert house.rows("select count(*) from orders") == [(1,)]
    assert sum(outcomes(house).values()) == 64
    house.check()


def test_signals_and_requests_are_written_down_together(house: House) -> None:
    strategy_id, intake = a_strategy(house), house.intake()
    submissions = [of for _ in range(20) for of in (house.submission(), a_signal(house, strategy_id))]

    answers = [answer.result(15) for answer in [intake.submit(submission) for submission in submissions]]

    assert house.rows("select count(*) from orders") == [(21,)]
    assert len({answer.intent_id for answer in answers[1::2]}) == 1


POINTS = ("intake.after_guard", "intake.before_commit", "intake.after_commit")
DELIVER = Path(__file__).with_name("dying_signal.py")


@pytest.fixture
def dying(house: House) -> Callable[[str, Submission], int]:
    def run(point: str, submission: Submission) -> int:
        guard = submission.guard
        assert guard is not None
        asked = {
            "url": house.database_url,
            "user": house.user_id,
            "point": point,
            "strategy": guard.strategy_id,
            "signal": guard.signal_id,
            "nonce": guard.nonce,
            "line": submission.request.orders[0].model_dump(mode="json", by_alias=True, exclude_none=True),
        }
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(DELIVER.parents[3]), str(DELIVER.parent)])}
        ran = subprocess.run(
            [sys.executable, DELIVER], input=orjson.dumps(asked), env=environment, capture_output=True, timeout=60
        )
        return ran.returncode

    return run


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("nonce", [None, "n1"])
def test_a_death_between_the_guard_and_the_intent_loses_and_doubles_nothing(
    house: House, dying: Callable[[str, Submission], int], point: str, nonce: str | None
) -> None:
    strategy_id = a_strategy(house)

    assert dying(point, a_signal(house, strategy_id, nonce)) == -signal.SIGKILL

    is_stored = point == "intake.after_commit"
    assert house.rows("select count(*) from orders") == [(int(is_stored),)]
    assert house.rows("select count(*) from signals") == [(int(is_stored),)]  # together with its intent, or not at all
    again = deliver(house.intake(), a_signal(house, strategy_id, nonce))
    assert again.replayed is is_stored
    assert house.rows("select count(*) from orders") == [(1,)]
    assert house.rows("select id from intents where kind = 'PLACE'") == [(again.intent_id,)]
    house.check()


def test_a_commit_in_doubt_is_found_by_the_next_delivery(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    strategy_id, desk = a_strategy(house), house.desk()
    intake = house.intake(desk)
    monkeypatch.setattr("pipeline.intake.crash", _lost_after("intake.after_commit"))
    with pytest.raises(ConnectionError):
        deliver(intake, a_signal(house, strategy_id))
    monkeypatch.setattr("pipeline.intake.crash", crash.crash)

    answer = deliver(intake, a_signal(house, strategy_id))

    assert answer.replayed
    assert house.rows("select count(*) from orders") == [(1,)]


def _lost_after(point: str) -> Callable[[str], None]:
    def crash_(name: str) -> None:
        if name == point:
            raise ConnectionError("the answer to the commit was lost")

    return crash_


