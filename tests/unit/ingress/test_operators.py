"""Threads for work on the record: bounded where a flood must not queue up, and never held up by one another."""

from __future__ import annotations

import asyncio
import threading

import psycopg
import pytest
from psycopg.errors import (
    DeadlockDetected,
    InsufficientPrivilege,
    LockNotAvailable,
    QueryCanceled,
    SerializationFailure,
    UniqueViolation,
)

from domain.errors import Overloaded
from ingress.operators import Operators
from ingress.problems import problem_of


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


@pytest.mark.parametrize("error", [LockNotAvailable, QueryCanceled, DeadlockDetected, SerializationFailure])
def test_what_a_database_says_of_the_moment_is_told_as_a_503_with_a_time(error: type[psycopg.Error]) -> None:
    problem = problem_of(raised_by_work(error()))

    assert problem is not None
    assert (problem.status, problem.code, problem.headers) == (503, "STORE_UNAVAILABLE", {"Retry-After": "1"})


@pytest.mark.parametrize("error", [UniqueViolation(), InsufficientPrivilege(), RuntimeError()])
def test_a_defect_stays_one(error: Exception) -> None:
    assert raised_by_work(error) is error
    assert problem_of(error) is None


def raised_by_work(error: Exception) -> Exception:
    """What comes of work that raises it."""
    operators = Operators(None, threads=1)  # type: ignore[arg-type]

    def work(_: object) -> None:
        raise error

    with pytest.raises(Exception) as raised:  # noqa: PT011 - whatever it is
        asyncio.run(operators.run(work))
    operators.close()
    return raised.value


def test_without_a_bound_everything_waits_its_turn() -> None:
    operators = Operators(None, threads=1)  # type: ignore[arg-type]

    async def asked() -> list[int]:
        return await asyncio.gather(*(operators.run(lambda _, number=number: number) for number in range(200)))

    assert asyncio.run(asked()) == list(range(200))
    operators.close()
