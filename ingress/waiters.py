"""Requests that wait for an intent to settle. Waiting holds a future and nothing else: no thread, no connection."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

import orjson
from redis.asyncio import Redis
from redis.exceptions import RedisError

from domain.errors import Busy
from readmodel import changes, queries
from readmodel.reader import Reader
from readmodel.views import SETTLED

log = logging.getLogger(__name__)

CHANNEL = "oc:news"
REREAD_S = 1.0  # news may be lost; everything that is waited for is read again this often
GATHER_S = 0.002  # news of one batch come together
RECONNECT_S = 1.0
REST = 4  # of ten thousand lines there is news all the time: a look at them is followed by a rest so many times as long


@dataclass(slots=True)
class _Watch:
    """What is waited for: that these orders settle, or, without any, that it is known what came of the intent's changes."""

    order_ids: Sequence[str] | None
    futures: set[asyncio.Future[None]] = field(default_factory=set)
    rests_until: float = 0.0  # not asked for again before, on the loop's clock


class Waiters:
    """Wakes those who wait when news of their intent comes in and every line of it has settled.

    A line that places has settled with its order; one that modifies or cancels when it is known what came of it.

    One subscription and one reader serve a whole process: however many wait, one question asks for all of them.
    """

    def __init__(self, reader: Reader, redis: Redis) -> None:
        self._reader, self._redis = reader, redis
        self._watches: dict[str, _Watch] = {}
        self._stirred: set[str] = set()
        self._stir = asyncio.Event()
        self._draining = False
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._tasks = [asyncio.create_task(self._listen()), asyncio.create_task(self._look())]

    async def stop(self) -> None:
        self.drain()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def drain(self) -> None:
        """Let everyone go at once, with what is known by now."""
        self._draining = True
        for watch in self._watches.values():
            _release(watch)

    async def until_settled(self, intent_id: str, order_ids: Sequence[str] | None, seconds: float) -> None:
        """Returns when every line has settled, when the time is over, or when the process shuts down.

        `order_ids` are those that the intent places; None where it changes orders.
        """
        if self._draining or seconds <= 0:
            return
        watch = self._watches.setdefault(intent_id, _Watch(order_ids))
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        watch.futures.add(future)
        self._stir_up(intent_id)  # it may have settled before we listened
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await future
        finally:
            watch.futures.discard(future)
            if not watch.futures and self._watches.get(intent_id) is watch:
                del self._watches[intent_id]

    @property
    def count(self) -> int:
        return sum(len(watch.futures) for watch in self._watches.values())

    def _stir_up(self, *intent_ids: str) -> None:
        self._stirred.update(intent_ids)
        self._stir.set()

    async def _look(self) -> None:
        """Ask for all lines that may have moved, and wake those whose intent has settled."""
        loop = asyncio.get_running_loop()
        reread_at = loop.time() + REREAD_S
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(reread_at):
                    await self._stir.wait()
                    await asyncio.sleep(GATHER_S)
            if loop.time() >= reread_at:
                self._stirred.update(self._watches)
                reread_at = loop.time() + REREAD_S
            now = loop.time()
            stirred = [intent_id for intent_id in self._stirred if intent_id in self._watches]
            resting = [intent_id for intent_id in stirred if self._watches[intent_id].rests_until > now]
            self._stirred = set(resting)
            self._stir.clear()
            if resting:
                loop.call_at(min(self._watches[intent_id].rests_until for intent_id in resting), self._stir.set)
            if len(stirred) > len(resting):
                await self._wake_settled([intent_id for intent_id in stirred if intent_id not in self._stirred])

    async def _wake_settled(self, intent_ids: Sequence[str]) -> None:
        places = {
            intent_id: order_ids
            for intent_id in intent_ids
            if (order_ids := self._watches[intent_id].order_ids) is not None
        }
        changing = [intent_id for intent_id in intent_ids if intent_id not in places]
        wanted = [order_id for order_ids in places.values() for order_id in order_ids]
        loop = asyncio.get_running_loop()
        try:
            states = await self._reader.ask(queries.states_of, wanted) if wanted else {}
            began = loop.time()
            open_yet = await self._reader.ask(changes.waited_for, changing) if changing else set()
            rests_until = loop.time() + REST * (loop.time() - began)
        except Busy as error:
            log.debug("waiting intents can't be read: %s", error)
            return
        for intent_id in intent_ids:
            watch = self._watches.get(intent_id)
            if watch is None:
                continue
            if intent_id in places:
                settled = all(states.get(order_id) in SETTLED for order_id in places[intent_id])
            else:
                settled, watch.rests_until = intent_id not in open_yet, rests_until
            if settled:
                _release(watch)

    async def _listen(self) -> None:
        while True:
            try:
                async for intent_ids in self._news():
                    waited_for = [intent_id for intent_id in intent_ids if intent_id in self._watches]
                    if waited_for:
                        self._stir_up(*waited_for)
            except (RedisError, OSError, TimeoutError) as error:
                log.warning("no news from Redis, waiting requests are served by reading again: %s", error)
            await asyncio.sleep(RECONNECT_S)

    async def _news(self) -> AsyncIterator[list[str]]:
        async with self._redis.pubsub(ignore_subscribe_messages=True) as subscription:
            await subscription.subscribe(CHANNEL)
            async for message in subscription.listen():
                if self._watches:
                    yield _intents_in(message["data"])


def _intents_in(data: bytes) -> list[str]:
    try:
        intent_ids = orjson.loads(data)["intents"]
    except (ValueError, KeyError, TypeError):
        return []
    return [intent_id for intent_id in intent_ids if isinstance(intent_id, str)] if isinstance(intent_ids, list) else []


def _release(watch: _Watch) -> None:
    for future in watch.futures:
        if not future.done():
            future.set_result(None)
