"""Whether an Idempotency-Key stands for an intent already: asked while nothing new is let in, before a body is read."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from readmodel.reader import Reader
from store import intents
from store.unit import Store

GATHER_S = 0.02  # who asks meanwhile is answered together: a look costs more than what one key adds to it
WAITING_MAX = 1_000

UserKey = tuple[str, str]  # the user's id and the Idempotency-Key


class KnownKeys:
    """Asks the record for all keys that wait at one moment at once, and one question at a time."""

    def __init__(self, reader: Reader, store: Store) -> None:
        self._reader, self._store = reader, store
        self._waiting: list[tuple[UserKey, asyncio.Future[bool]]] = []
        self._count = 0  # of those that wait, and of those whose question is under way
        self._looking: asyncio.Task[None] | None = None

    async def has(self, user_id: str, idempotency_key: str) -> bool:
        """Whether the key is known; False, too, where so many ask that none more can be: who comes again asks again.

        Raises Overloaded or StoreAway when the record can't be asked.
        """
        if self._count >= WAITING_MAX:
            return False
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append(((user_id, idempotency_key), answer))
        if self._looking is None:
            self._looking = asyncio.create_task(self._look())
        self._count += 1
        try:
            return await answer
        finally:
            self._count -= 1

    async def _look(self) -> None:
        try:
            while self._waiting:
                await asyncio.sleep(GATHER_S)
                asked, self._waiting = self._waiting, []
                await self._answer(asked)
        finally:
            self._looking = None

    async def _answer(self, asked: Sequence[tuple[UserKey, asyncio.Future[bool]]]) -> None:
        keys = [key for key, _ in asked]
        try:
            known = await self._reader.run(lambda: self._known(keys))
        except Exception as error:  # noqa: BLE001 - whatever it is, each of those who wait must hear of it
            for _, answer in asked:
                if not answer.done():
                    answer.set_exception(error)
        else:
            for key, answer in asked:
                if not answer.done():
                    answer.set_result(key in known)

    def _known(self, keys: Sequence[UserKey]) -> set[UserKey]:
        with self._store.unit() as unit:
            return intents.known(unit, keys)
