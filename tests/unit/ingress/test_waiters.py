"""Waiters: woken by news, or by the slow look, or by the end; and each costs a future, nothing else."""

from __future__ import annotations

import asyncio
import time

import orjson
import pytest
from redis.exceptions import ConnectionError as RedisGone

from domain.errors import StoreAway
from ingress import waiters as module
from ingress.waiters import Waiters
from readmodel import changes


class FakeReader:
    def __init__(self) -> None:
        self.states: dict[str, str] = {}
        self.open_yet: set[str] = set()  # intents that change orders, and aren't through
        self.questions: list[list[str]] = []
        self.away = False

    async def ask(self, question, order_ids):
        if question is changes.waited_for:
            return self.open_yet & set(order_ids)
        self.questions.append(list(order_ids))
        if self.away:
            raise StoreAway("gone")
        return {order_id: self.states.get(order_id, "RECEIVED") for order_id in order_ids}


class FakeRedis:
    def __init__(self) -> None:
        self.messages: asyncio.Queue = asyncio.Queue()
        self.gone = False

    def pubsub(self, **_how):
        return self

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_error):
        return None

    async def subscribe(self, channel):
        if self.gone:
            raise RedisGone("gone")

    async def listen(self):
        while True:
            yield {"data": await self.messages.get()}

    def tell(self, *intent_ids):
        self.messages.put_nowait(orjson.dumps({"intents": intent_ids}))


def waiting(scenario):
    async def run():
        reader, redis = FakeReader(), FakeRedis()
        waiters = Waiters(reader, redis)
        waiters.start()
        try:
            await asyncio.wait_for(scenario(waiters, reader, redis), 10)
        finally:
            await waiters.stop()

    asyncio.run(run())


async def soon(condition, within_s=2.0):
    end = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end
        await asyncio.sleep(0.005)


def test_news_wakes_those_whose_lines_have_all_settled(monkeypatch):
    monkeypatch.setattr(module, "REREAD_S", 30.0)

    async def scenario(waiters, reader, redis):
        task = asyncio.create_task(waiters.until_settled("i1", ["a", "b"], 20))
        await soon(lambda: reader.questions)
        reader.states["a"] = "FILLED"
        redis.tell("i1")
        await soon(lambda: len(reader.questions) == 2)
        assert not task.done()
        reader.states["b"] = "OPEN"
        redis.tell("other", "i1")
        await task
        assert waiters.count == 0
        assert waiters._watches == {}

    waiting(scenario)


def test_what_settled_before_anyone_listened_is_seen_at_once(monkeypatch):
    monkeypatch.setattr(module, "REREAD_S", 30.0)

    async def scenario(waiters, reader, redis):
        reader.states["a"] = "REJECTED"
        await waiters.until_settled("i1", ["a"], 20)

    waiting(scenario)


def test_without_news_the_slow_look_finds_it(monkeypatch):
    monkeypatch.setattr(module, "REREAD_S", 0.05)

    async def scenario(waiters, reader, redis):
        redis.gone = True
        task = asyncio.create_task(waiters.until_settled("i1", ["a"], 20))
        await soon(lambda: reader.questions)
        reader.states["a"] = "CANCELLED"
        await task

    waiting(scenario)


def test_a_thousand_waiters_are_one_question(monkeypatch):
    monkeypatch.setattr(module, "REREAD_S", 30.0)

    async def scenario(waiters, reader, redis):
        tasks = [asyncio.create_task(waiters.until_settled(f"i{n}", [f"o{n}"], 20)) for n in range(1_000)]
        await soon(lambda: waiters.count == 1_000)
        await soon(lambda: sum(map(len, reader.questions)) >= 1_000)
        asked = len(reader.questions)
        reader.states = {f"o{n}": "OPEN" for n in range(1_000)}
        redis.tell(*(f"i{n}" for n in range(1_000)))
        await asyncio.gather(*tasks)
        assert len(reader.questions) - asked == 1

    waiting(scenario)


def test_the_time_is_over_when_it_is_over():
    async def scenario(waiters, reader, redis):
        began = time.monotonic()
        await waiters.until_settled("i1", ["a"], 0.05)
        assert time.monotonic() - began < 2
        assert waiters._watches == {}

    waiting(scenario)


def test_a_process_that_ends_lets_everyone_go():
    async def scenario(waiters, reader, redis):
        task = asyncio.create_task(waiters.until_settled("i1", ["a"], 60))
        await soon(lambda: waiters.count == 1)
        waiters.drain()
        await task
        await waiters.until_settled("i2", ["b"], 60)

    waiting(scenario)


def test_two_who_wait_for_one_intent_are_both_woken():
    async def scenario(waiters, reader, redis):
        tasks = [asyncio.create_task(waiters.until_settled("i1", ["a"], 20)) for _ in range(2)]
        await soon(lambda: waiters.count == 2)
        reader.states["a"] = "FILLED"
        redis.tell("i1")
        await asyncio.gather(*tasks)

    waiting(scenario)


def test_a_client_that_hangs_up_leaves_nothing_behind():
    async def scenario(waiters, reader, redis):
        task = asyncio.create_task(waiters.until_settled("i1", ["a"], 20))
        await soon(lambda: waiters.count == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert waiters._watches == {}

    waiting(scenario)


@pytest.mark.parametrize("nonsense", [b"", b"x", b"[]", b"{}", b'{"intents": 1}', b'{"intents": [1, null]}'])
def test_news_that_makes_no_sense_is_passed_over(nonsense, monkeypatch):
    monkeypatch.setattr(module, "REREAD_S", 30.0)

    async def scenario(waiters, reader, redis):
        task = asyncio.create_task(waiters.until_settled("i1", ["a"], 20))
        await soon(lambda: reader.questions)
        redis.messages.put_nowait(nonsense)
        reader.states["a"] = "OPEN"
        redis.tell("i1")
        await task

    waiting(scenario)


def test_a_database_that_is_away_is_asked_again(monkeypatch):
    monkeypatch.setattr(module, "REREAD_S", 0.05)

    async def scenario(waiters, reader, redis):
        reader.away = True
        task = asyncio.create_task(waiters.until_settled("i1", ["a"], 20))
        await soon(lambda: len(reader.questions) >= 2)
        reader.away, reader.states["a"] = False, "OPEN"
        await task

    waiting(scenario)


def test_an_intent_that_changes_orders_is_waited_for_beside_one_that_places(monkeypatch):
    monkeypatch.setattr(module, "REREAD_S", 30.0)

    async def scenario(waiters, reader, redis):
        reader.open_yet = {"c1"}
        places = asyncio.create_task(waiters.until_settled("i1", ["a"], 20))
        changes = asyncio.create_task(waiters.until_settled("c1", None, 20))
        await soon(lambda: waiters.count == 2)
        reader.states["a"] = "OPEN"
        redis.tell("i1", "c1")
        await places
        assert not changes.done()
        reader.open_yet = set()
        redis.tell("c1")
        await changes
        assert waiters._watches == {}

    waiting(scenario)
