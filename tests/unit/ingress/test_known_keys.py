"""Known keys: all that wait are asked for together, and each hears its own answer, whatever the record does."""

from __future__ import annotations

import asyncio

import pytest

from domain.errors import StoreAway
from ingress import known_keys as module
from ingress.known_keys import KnownKeys

KNOWN = ("ada", "key-0")


class FakeReader:
    def __init__(self) -> None:
        self.looks = 0
        self.away = False
        self.let_go = asyncio.Event()
        self.let_go.set()

    async def run(self, work):
        self.looks += 1
        await self.let_go.wait()
        if self.away:
            raise StoreAway("gone")
        return work()


class FakeKnownKeys(KnownKeys):
    def __init__(self, reader: FakeReader) -> None:
        super().__init__(reader, None)
        self.asked: list[list[tuple[str, str]]] = []

    def _known(self, keys):
        self.asked.append(list(keys))
        return {KNOWN} & set(keys)


@pytest.fixture(autouse=True)
def no_gathering(monkeypatch):
    monkeypatch.setattr(module, "GATHER_S", 0)


def test_those_who_ask_together_are_one_question_and_hear_their_own_answers():
    async def scenario():
        keys = FakeKnownKeys(FakeReader())
        answers = await asyncio.gather(*(keys.has("ada", f"key-{number}") for number in range(50)))
        assert answers == [True] + [False] * 49
        assert [len(asked) for asked in keys.asked] == [50]
        assert not await keys.has("bob", "key-0")

    asyncio.run(scenario())


def test_who_comes_while_one_question_is_under_way_is_in_the_next():
    async def scenario():
        reader = FakeReader()
        keys = FakeKnownKeys(reader)
        reader.let_go.clear()
        first = asyncio.create_task(keys.has("ada", "key-0"))
        while not reader.looks:
            await asyncio.sleep(0)
        others = [asyncio.create_task(keys.has("ada", f"key-{number}")) for number in range(5)]
        await asyncio.sleep(0)
        reader.let_go.set()
        assert await first
        assert await asyncio.gather(*others) == [True, False, False, False, False]
        assert [len(asked) for asked in keys.asked] == [1, 5]

    asyncio.run(scenario())


def test_who_hangs_up_takes_nobody_along():
    async def scenario():
        keys = FakeKnownKeys(FakeReader())
        gone, stays = (asyncio.create_task(keys.has("ada", "key-0")) for _ in range(2))
        await asyncio.sleep(0)
        gone.cancel()
        assert await stays

    asyncio.run(scenario())


def test_where_too_many_ask_the_answer_is_no_at_once(monkeypatch):
    async def scenario():
        monkeypatch.setattr(module, "WAITING_MAX", 3)
        reader = FakeReader()
        keys = FakeKnownKeys(reader)
        reader.let_go.clear()
        asking = [asyncio.create_task(keys.has("ada", "key-0")) for _ in range(3)]
        await asyncio.sleep(0)
        assert not await keys.has(*KNOWN)
        reader.let_go.set()
        assert await asyncio.gather(*asking) == [True, True, True]
        assert await keys.has(*KNOWN)

    asyncio.run(scenario())


def test_each_hears_of_a_record_that_is_away_and_the_next_one_asks_again():
    async def scenario():
        reader = FakeReader()
        keys = FakeKnownKeys(reader)
        reader.away = True
        answers = await asyncio.gather(*(keys.has("ada", "key-0") for _ in range(3)), return_exceptions=True)
        assert [type(answer) for answer in answers] == [StoreAway] * 3
        reader.away = False
        assert await keys.has(*KNOWN)

    asyncio.run(scenario())
