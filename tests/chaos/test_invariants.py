"""What waits for its broker's allowance waits by right, and nothing else does."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.chaos.allowance import Allowance
from tests.chaos.invariants import Scene, nothing_waits_for_ever

NOW = datetime(2026, 11, 26, 10, 44, 0, tzinfo=UTC)  # 16:14 in India: the half hour began at 10:30
MINUTE = timedelta(minutes=1)


def scene(attempts: int, *, at: datetime = NOW - MINUTE, stage: str = "dispatch.upstox", state: str = "READY") -> Scene:
    account = {"id": "UP0001", "broker": "upstox"}
    command: dict[str, Any] = {"order_id": "one", "seq": 0, "stage": stage, "state": state, "due_at": NOW - 5 * MINUTE}
    command |= {"lease_until": NOW - 5 * MINUTE}
    return Scene(
        now=NOW,
        orders={"one": {"account_id": "UP0001"}},
        commands=[command],
        events={},
        attempts=[{"account_id": "UP0001", "started_at": at}] * attempts,
        changes=[],
        accounts=[account],
        searches=set(),
        intents=[],
        reports_waiting=0,
    )


def test_an_order_whose_account_has_used_its_half_hour_waits_by_right() -> None:
    spent = scene(1_800)

    assert list(nothing_waits_for_ever(spent)) == []
    assert (spent.busy, spent.waiting_for_allowance) == (0, 1)


@pytest.mark.parametrize(
    "waiting",
    [
        scene(1_799),
        scene(3_000, at=NOW - 15 * MINUTE),  # of the half hour before
        scene(3_000, stage="validate"),
        scene(3_000, state="SENDING"),
    ],
)
def test_no_other_order_does(waiting: Scene) -> None:
    assert [order_id for order_id, _ in nothing_waits_for_ever(waiting)] == ["one"]
    assert (waiting.busy, waiting.waiting_for_allowance) == (1, 0)


def test_a_long_campaign_rests_until_the_next_half_hour_and_counts_anew_in_it() -> None:
    half_past = NOW - 14 * MINUTE
    allowance = Allowance(half_past - 8 * MINUTE)

    rests = [allowance.rest_s(half_past + minutes * MINUTE) for minutes in (-1, 0, 9, 10, 29, 30, 39, 40)]

    assert rests == [0, 0, 0, 20 * 60, 60, 0, 0, 20 * 60]
