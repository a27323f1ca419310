"""Answers that another thread gives, brought to the event loop."""

from __future__ import annotations

import asyncio
from collections import deque
from concurrent.futures import Future
from typing import Any, TypeVar

_T = TypeVar("_T")


class Landing:
    """Awaits futures of other threads; those that are done together wake the loop once.

    `asyncio.wrap_future` would do, at a wake-up each, and would cancel the work behind when a client hangs up.
    """

    def __init__(self) -> None:
        self._landed: deque[asyncio.Future[None]] = deque()
        self._called = False

    async def of(self, future: Future[_T]) -> _T:
        if not future.done():
            loop = asyncio.get_running_loop()
            waiter: asyncio.Future[None] = loop.create_future()
            future.add_done_callback(lambda _: self._land(loop, waiter))
            await waiter
        return future.result()

    def _land(self, loop: asyncio.AbstractEventLoop, waiter: asyncio.Future[Any]) -> None:
        self._landed.append(waiter)
        if not self._called:
            self._called = True
            loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        self._called = False  # first, so that what lands from now on calls again
        while self._landed:
            waiter = self._landed.popleft()
            if not waiter.done():
                waiter.set_result(None)
