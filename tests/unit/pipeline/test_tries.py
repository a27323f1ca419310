"""How long a failed order waits for its next try, and a name for every stage's queue."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from pipeline.chain import all_stages, dispatch_stage, queue_of, reports_stage
from pipeline.stage import Policy


@given(st.integers(0, 60))
def test_waits_double_with_jitter_up_to_their_last(attempts: int) -> None:
    policy = Policy(tries=5, backoff_ms=(200, 5_000))
    plain_ms = min(5_000, 200 * 2 ** max(0, attempts - 1))

    wait = policy.wait(attempts)

    assert timedelta(milliseconds=plain_ms * 0.74) <= wait <= timedelta(milliseconds=plain_ms * 1.26)


def test_every_stage_has_a_queue_of_its_own() -> None:
    brokers = ("upstox", "zerodha")
    stages = [*all_stages(brokers), *map(reports_stage, brokers)]

    assert len({queue_of(stage) for stage in stages}) == len(stages)
    assert dispatch_stage("upstox") in stages
