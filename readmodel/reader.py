"""Runs questions to the record off the event loop: on a few threads, as many as there are connections."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Concatenate, ParamSpec, TypeVar

import psycopg
from sqlalchemy import Connection
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from domain.errors import Overloaded, StoreAway
from store.unit import Store

WAITING_PER_THREAD = 16  # questions that may wait for a thread; more are refused at once
QUICKLY_S = 0.5
AWAY_S = 1.0  # after a failure one question tries the database again, the others are refused until it is back

_AWAY = (OperationalError, InterfaceError, PoolTimeout, psycopg.OperationalError, psycopg.InterfaceError)
_T = TypeVar("_T")
_P = ParamSpec("_P")


class Reader:
    """Answers questions with connections of its own, so that reads never take one from the writer."""

    def __init__(self, store: Store, *, threads: int) -> None:
        self._store = store
        # Reads need no transaction: one trip to the server each, instead of three.
        self._engine = store.engine.execution_options(isolation_level="AUTOCOMMIT")
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="reader")
        self._under_way = 0
        self._room = threads * (1 + WAITING_PER_THREAD)
        self._away_until: float | None = None
        self._answered_at = 0.0

    async def ask(self, question: Callable[Concatenate[Connection, _P], _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """The question's answer. Raises Overloaded or StoreAway; never waits for a database known to be away."""
        return await self.run(lambda: self._asked(question, *args, **kwargs))

    async def run(self, work: Callable[[], _T]) -> _T:
        """Any short blocking work on the record, under the same conditions; it must be safe to do twice."""
        self._refuse_while_away()
        if self._under_way >= self._room:
            raise Overloaded("too many reads wait for the database")
        self._under_way += 1
        began = time.monotonic()
        try:
            answer = await asyncio.get_running_loop().run_in_executor(self._threads, self._done, work)
        except StoreAway:
            if self._answered_at < began:  # else it was back since, and this is old news
                self._away_until = time.monotonic() + AWAY_S
            raise
        finally:
            self._under_way -= 1
        self._away_until, self._answered_at = None, time.monotonic()
        return answer

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._store.close()

    def _refuse_while_away(self) -> None:
        if self._away_until is None:
            return
        now = time.monotonic()
        if now < self._away_until:
            raise StoreAway("the database can't be reached")
        self._away_until = now + AWAY_S  # this one tries

    def _done(self, work: Callable[[], _T]) -> _T:
        began = time.monotonic()
        try:
            return work()
        except StoreAway:
            if time.monotonic() - began > QUICKLY_S:
                raise
            # Perhaps only the pooled connections had died, with a server that is back already.
            self._store.renew()
            return work()

    def _asked(self, question: Callable[Concatenate[Connection, _P], _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        try:
            with self._store.looked_after(), self._engine.connect() as connection:
                try:
                    return question(connection, *args, **kwargs)
                except (psycopg.OperationalError, psycopg.InterfaceError):
                    connection.invalidate()  # no statement of SQLAlchemy's own, so that it does not know
                    raise
        except _AWAY as error:
            raise StoreAway("the database can't be reached") from error
