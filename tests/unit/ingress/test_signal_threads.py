"""The look at a signal's secret has threads of its own, and no more wait for them than they can soon look at."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from domain.errors import NoSuchSignal, Overloaded
from ingress.operators import Operators
from ingress.signals import _let_in

CALL: Any = SimpleNamespace(path={"user": "ada", "name": "breakout"})


class NoThrottle:
    async def take(self, key: object) -> None:
        return None


@pytest.fixture
def free() -> Iterator[threading.Event]:
    free = threading.Event()
    yield free
    free.set()


@pytest.fixture
def door() -> Iterator[Any]:
    made = {name: Operators(None, threads=1, waiting_max=1) for name in ("signallers", "trials")}  # type: ignore[arg-type]
    yield SimpleNamespace(**made, throttle=NoThrottle())
    for operators in made.values():
        operators.close()


async def wrong(door: Any) -> None:
    with pytest.raises(NoSuchSignal):
        await _let_in(door, CALL, "wrong")


def within_seconds(work: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(work(), 5.0))  # type: ignore[arg-type]


def test_what_is_tried_out_keeps_no_signal_waiting(
    door: Any, free: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.signals.find", lambda *_: None)

    async def ask() -> None:
        preview = asyncio.create_task(door.trials.run(lambda _: free.wait(10)))
        await asyncio.sleep(0)
        await asyncio.wait_for(wrong(door), 2.0)
        free.set()
        await preview

    within_seconds(ask)


def test_more_signals_than_can_soon_be_looked_at_are_refused_at_once(
    door: Any, free: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.signals.find", lambda *_: free.wait(10) and None)

    async def ask() -> None:
        flood = [asyncio.create_task(wrong(door)) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(Overloaded) as refused:
            await _let_in(door, CALL, "wrong")
        assert refused.value.retry_after_s >= 1
        assert await door.trials.run(lambda _: "done") == "done"
        free.set()
        await asyncio.gather(*flood)
        await wrong(door)

    within_seconds(ask)
