"""Work on the record that takes its time: off the event loop, on threads of its own, with the desk that the stages have."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

import psycopg

from domain.errors import Overloaded, StoreAway
from store.unit import is_passing

if TYPE_CHECKING:
    from pipeline.desk import Desk

log = logging.getLogger(__name__)

THREADS = 2
WAITING_PER_THREAD = 16  # where it is bounded: more that wait for a thread are refused at once
_T = TypeVar("_T")


class Operators:
    """A client that hangs up stops nothing: what was begun is done, and its Idempotency-Key tells how it ended."""

    def __init__(
        self, desk: Desk, *, threads: int = THREADS, name: str = "operator", waiting_max: int | None = None
    ) -> None:
        """With `waiting_max` no more work than that waits for a thread."""
        self._desk, self._name = desk, name
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._room = None if waiting_max is None else threads + waiting_max
        self._under_way = 0

    async def run(self, work: Callable[[Desk], _T]) -> _T:
        """Raises Overloaded, with nothing begun; and StoreAway for what the database says of the moment only."""
        if self._room is not None and self._under_way >= self._room:
            raise Overloaded(f"too much work of this kind ({self._name}) waits for the database")
        self._under_way += 1
        done = asyncio.get_running_loop().run_in_executor(self._threads, work, self._desk)
        done.add_done_callback(self._ended)
        try:
            return await asyncio.shield(done)
        except psycopg.Error as error:
            if not is_passing(error):
                raise
            raise StoreAway("the database is busy; try again") from error

    def afterwards(self, work: Callable[[Desk], object]) -> None:
        """What nobody waits for; where it fails, that is logged."""
        self._threads.submit(work, self._desk).add_done_callback(_told)

    def _ended(self, _done: object) -> None:
        self._under_way -= 1

    def close(self) -> None:
        self._threads.shutdown(wait=True, cancel_futures=True)


def there(operators: Operators | None) -> Operators:
    """The desk that a door was given for this kind of work; one without it serves no such operation."""
    if operators is None:
        raise TypeError("this door has no desk for that")
    return operators


def _told(done: Future[object]) -> None:
    error = None if done.cancelled() else done.exception()
    if error is not None:
        log.warning("what follows an operator's act was not done", exc_info=error)
