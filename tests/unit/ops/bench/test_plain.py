from __future__ import annotations

from typing import Any

import pytest
from dramatiq import Worker
from dramatiq.brokers.stub import StubBroker

from ops.bench.plain import STAGES, Chain, declare


class Recorded:
    """A chain that only writes down what it was asked, and stops an order where it is told to."""

    def __init__(self, stops_at: str | None = None) -> None:
        self.done: list[str] = []
        self._stops_at = stops_at

    def __getattr__(self, stage: str) -> Any:
        def step(order_id: str) -> bool:
            self.done.append(stage)
            return stage != self._stops_at

        return step


def run(chain: Recorded) -> None:
    broker = StubBroker()
    actors = declare(broker, chain)  # type: ignore[arg-type]
    worker = Worker(broker, worker_threads=1, worker_timeout=10)
    worker.start()
    try:
        actors["validate"].send("an order")
        for actor in actors.values():
            broker.join(actor.queue_name, timeout=5_000)
    finally:
        worker.stop()
        broker.close()


def test_an_order_takes_seven_messages_one_per_stage():
    chain = Recorded()

    run(chain)

    assert chain.done == list(STAGES)


@pytest.mark.parametrize("stage", STAGES[:-1])
def test_an_order_that_a_stage_ends_goes_no_further(stage: str):
    chain = Recorded(stops_at=stage)

    run(chain)

    assert chain.done == list(STAGES[: STAGES.index(stage) + 1])


def test_every_stage_has_a_step():
    assert all(callable(getattr(Chain, stage)) for stage in STAGES)
