"""The reader: bounded, and quick to say that the database is away."""

from __future__ import annotations

import asyncio
import threading

import pytest

from domain.errors import Overloaded, StoreAway
from readmodel import reader as module
from readmodel.reader import Reader


class Engine:
    def execution_options(self, **_options):
        return self


class FakeStore:
    def __init__(self) -> None:
        self.engine = Engine()
        self.renewals = 0

    def renew(self) -> None:
        self.renewals += 1

    def close(self) -> None:
        pass


def test_more_questions_than_can_wait_are_refused_at_once():
    async def scenario():
        reader = Reader(FakeStore(), threads=1)
        gate = threading.Event()
        room = 1 + module.WAITING_PER_THREAD
        under_way = [asyncio.create_task(reader.run(gate.wait)) for _ in range(room)]
        await asyncio.sleep(0)

        with pytest.raises(Overloaded):
            await reader.run(gate.wait)

        gate.set()
        assert await asyncio.gather(*under_way) == [True] * room
        assert await reader.run(lambda: "served again") == "served again"
        reader.close()

    asyncio.run(scenario())


def test_connections_that_died_in_the_pool_cost_one_quiet_retry():
    async def scenario():
        store, answers = FakeStore(), iter([StoreAway("gone"), "here"])
        reader = Reader(store, threads=1)

        def work():
            answer = next(answers)
            if isinstance(answer, Exception):
                raise answer
            return answer

        assert await reader.run(work) == "here"
        assert store.renewals == 1
        reader.close()

    asyncio.run(scenario())


def test_while_the_database_is_known_to_be_away_nobody_waits_for_it():
    async def scenario():
        reader = Reader(FakeStore(), threads=1)
        asked = []

        def work():
            asked.append(1)
            raise StoreAway("gone")

        with pytest.raises(StoreAway):
            await reader.run(work)
        tries = len(asked)
        with pytest.raises(StoreAway):
            await reader.run(work)
        assert len(asked) == tries

        reader._away_until = 0.0  # the pause is over
        assert await reader.run(lambda: "back") == "back"
        assert await reader.run(lambda: "and stays") == "and stays"
        reader.close()

    asyncio.run(scenario())
