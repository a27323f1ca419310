"""Threads for work on the record: bounded where a flood must not queue up, and never held up by one another."""

from __future__ import annotations

import asyncio
import threading

import pytest

from domain.errors import Overloaded
from ingress.operators import Operators


def test_more_than_may_wait_is_refused_at_once_and_let_in_again_later() -> None:
    free = threading.Event()
    operators = Operators(None, threads=1, name="change", waiting_max=2)  # type: ignore[arg-type]

    async def asked() -> list[str]:
        under_way = [asyncio.create_task(operators.run(lambda _: free.wait(10) and "done")) for _ in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(Overloaded) as refused:
            await operators.run(lambda _: "never")
        assert refused.value.retry_after_s >= 1
        free.set()
        told = await asyncio.gather(*under_way)
        return [*told, await operators.run(lambda _: "later")]

    assert asyncio.run(asked()) == ["done", "done", "done", "later"]
    operators.close()


def test_a_client_that_hangs_up_gives_no_room_before_its_work_is_done() -> None:
    free = threading.Event()
    operators = Operators(None, threads=1, waiting_max=0)  # type: ignore[arg-type]

    async def asked() -> bool:
        left = asyncio.create_task(operators.run(lambda _: free.wait(10)))
        await asyncio.sleep(0)
        left.cancel()
        await asyncio.wait([left])
        with pytest.raises(Overloaded):
            await operators.run(lambda _: True)
        free.set()
        while operators._under_way:
            await asyncio.sleep(0.001)
        return await operators.run(lambda _: True)

    assert asyncio.run(asked())
    operators.close()


def test_without_a_bound_everything_waits_its_turn() -> None:
    operators = Operators(None, threads=1)  # type: ignore[arg-type]

    async def asked() -> list[int]:
        return await asyncio.gather(*(operators.run(lambda _, number=number: number) for number in range(200)))

    assert asyncio.run(asked()) == list(range(200))
    operators.close()
