"""Work on the record that takes its time: off the event loop, on threads of its own, with the desk that the stages have."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from pipeline.desk import Desk

log = logging.getLogger(__name__)

THREADS = 2
_T = TypeVar("_T")


class Operators:
    """A client that hangs up stops nothing: what was begun is done, and its Idempotency-Key tells how it ended."""

    def __init__(self, desk: Desk, *, threads: int = THREADS, name: str = "operator") -> None:
        self._desk = desk
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix=name)

    async def run(self, work: Callable[[Desk], _T]) -> _T:
        return await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._threads, work, self._desk))

    def afterwards(self, work: Callable[[Desk], object]) -> None:
        """What nobody waits for; where it fails, that is logged."""
        self._threads.submit(work, self._desk).add_done_callback(_told)

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
