"""The throttle: a key's rate holds over all processes, and over each one's share while Redis is away."""

from __future__ import annotations

import asyncio

import pytest
from redis.exceptions import ConnectionError as RedisGone

from domain.errors import TooManyRequests
from ingress import throttle as module
from ingress.throttle import Throttle
from store.users import ApiKey, Role


class Clock:
    now = 1_000.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


class FakeRedis:
    """One shared bucket, as the script keeps it."""

    def __init__(self, clock: Clock) -> None:
        self.clock, self.tokens, self.at, self.draws, self.gone = clock, None, 0.0, 0, False

    def register_script(self, _script):
        async def draw(keys, args):
            self.draws += 1
            if self.gone:
                raise RedisGone("gone")
            rate, wanted = args
            full = rate if self.tokens is None else self.tokens + (self.clock.now - self.at) * rate
            tokens = min(rate, full)
            given = min(wanted, int(tokens))
            self.tokens, self.at = tokens - given, self.clock.now
            return given

        return draw


def a_key(rate: int) -> ApiKey:
    return ApiKey("k1", "u1", "ada", Role.TRADER, rate)


async def spend(throttle: Throttle, key: ApiKey, wanted: int) -> int:
    taken = 0
    for _ in range(wanted):
        try:
            await throttle.take(key)
        except TooManyRequests:
            break
        taken += 1
    return taken


def test_two_processes_share_one_rate(clock):
    async def scenario():
        redis, key = FakeRedis(clock), a_key(100)
        one, other = Throttle(redis, processes=2), Throttle(redis, processes=2)
        assert await spend(one, key, 60) + await spend(other, key, 60) == 100
        clock.now += 0.5
        assert await spend(other, key, 1_000) == 50

    asyncio.run(scenario())


def test_tokens_are_drawn_in_blocks(clock):
    async def scenario():
        redis, key = FakeRedis(clock), a_key(1_000)
        throttle = Throttle(redis, processes=1)
        assert await spend(throttle, key, 500) == 500
        assert redis.draws == 5

    asyncio.run(scenario())


def test_those_who_wait_together_draw_once(clock):
    async def scenario():
        redis, key = FakeRedis(clock), a_key(1_000)
        throttle = Throttle(redis, processes=1)
        await asyncio.gather(*(throttle.take(key) for _ in range(100)))
        assert redis.draws == 1

    asyncio.run(scenario())


def test_of_those_who_wait_together_each_gets_a_token_while_there_are_any(clock):
    async def scenario():
        throttle, key = Throttle(FakeRedis(clock), processes=1), a_key(5)  # drawn one by one
        answers = await asyncio.gather(*(throttle.take(key) for _ in range(12)), return_exceptions=True)
        assert [type(answer) for answer in answers].count(TooManyRequests) == 7

    asyncio.run(scenario())


def test_a_quiet_process_hoards_nothing(clock):
    async def scenario():
        redis, key = FakeRedis(clock), a_key(100)
        throttle = Throttle(redis, processes=1)
        await throttle.take(key)
        clock.now += 2
        assert not throttle.take_at_hand(key)

    asyncio.run(scenario())


def test_without_redis_each_process_gives_its_share(clock):
    async def scenario():
        redis, key = FakeRedis(clock), a_key(100)
        redis.gone = True
        throttle = Throttle(redis, processes=4)
        assert await spend(throttle, key, 200) == 25
        clock.now += 0.2
        assert await spend(throttle, key, 200) == 5
        assert redis.draws == 1  # left alone for a while

        redis.gone = False
        clock.now += 5
        assert await spend(throttle, key, 1_000) >= 100

    asyncio.run(scenario())


def test_the_slowest_key_still_gets_something(clock):
    async def scenario():
        redis, key = FakeRedis(clock), a_key(1)
        assert await spend(Throttle(redis, processes=8), key, 10) == 1
        redis.gone = True
        assert await spend(Throttle(redis, processes=8), key, 10) == 1

    asyncio.run(scenario())
