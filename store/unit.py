"""A unit: one open transaction. Commits happen here and nowhere else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg.types.string import TextLoader
from sqlalchemy import Engine, create_engine, event, make_url
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from domain.errors import StoreAway
from store.json import storable

# By-key plans for every statement of the pipeline. A statement prepared while a table was empty would otherwise keep
# its sequential scan until the next analyze; all our hot statements touch rows by key, so nested loops over indexes
# are right at any size.
_BY_KEY = (
    "-c enable_seqscan=off -c enable_hashjoin=off -c enable_mergejoin=off -c enable_bitmapscan=off "
    "-c plan_cache_mode=force_generic_plan"
)
# A peer that vanished is noticed within ten seconds, from both sides: its locks must not outlive it.
_KEEPALIVES = "-c tcp_keepalives_idle=5 -c tcp_keepalives_interval=2 -c tcp_keepalives_count=2"
_CLIENT_LIMITS: dict[str, Any] = {
    "connect_timeout": 3,
    "tcp_user_timeout": 5000,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 2,
}
_LIMITS = (
    "-c timezone=UTC -c statement_timeout=5000 -c lock_timeout=3000 -c idle_in_transaction_session_timeout=5000 "
    + _KEEPALIVES
)
# Errors on a live connection that are the server's state and no statement's fault: out of disk, memory or connections,
# shutting down, an I/O error, and a primary that has become a standby.
_SERVER_UNFIT = ("53", "57P", "58", "25006")


class Unit:
    """Statements inside one transaction. Ids come and go as text, times as aware datetimes in UTC."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self.connection = connection

    def rows(self, sql: str, parameters: Sequence[Any] | dict[str, Any] = ()) -> list[tuple[Any, ...]]:
        return self.connection.execute(sql, parameters).fetchall()

    def run(self, sql: str, parameters: Sequence[Any] | dict[str, Any] = ()) -> int:
        """How many rows the statement touched; -1 inside `together`."""
        return self.connection.execute(sql, parameters).rowcount

    @contextmanager
    def together(self) -> Iterator[None]:
        """Send the block's statements in one round trip; their row counts aren't known, and errors come at its end."""
        with self.connection.pipeline():
            yield


class Store:
    """The record of one process: a pool of connections, and units on them."""

    def __init__(self, url: str, *, name: str, size: int = 8, by_key: bool = True, durable: bool = True) -> None:
        """A pool of at most `size` connections, made at first use.

        `by_key` pins index plans, for the pipeline; the read side plans freely. Without `durable` each
        statement commits by itself and does not wait for the disk: for what may be lost in a crash of the database.
        """
        self.url = url
        options = f"{_LIMITS} {_BY_KEY}" if by_key else _LIMITS
        if not durable:
            options += " -c synchronous_commit=off"
        self.engine: Engine = create_engine(
            make_url(url).set(drivername="postgresql+psycopg"),
            pool_size=size,
            max_overflow=0,
            pool_timeout=3,
            pool_pre_ping=False,
            pool_use_lifo=True,
            connect_args={
                "options": options,
                "application_name": name,
                "prepare_threshold": 1,
                **_CLIENT_LIMITS,
            },
        )
        event.listen(self.engine, "connect", _ids_as_text)
        if not durable:
            event.listen(self.engine, "connect", _commit_each)

    @contextmanager
    def unit(self) -> Iterator[Unit]:
        """One transaction: committed when the block ends, rolled back when it raises.

        Raises StoreAway when the database can't be reached or can't work. After an error from the commit itself
        nobody knows whether it took; the compare-and-sets of the caller make a repeat safe. What a live database says
        of a statement (a lock not had in time, a constraint) is raised as psycopg's own error.
        """
        try:
            with self.looked_after(), self.engine.connect() as connection:
                driver: psycopg.Connection[Any] = connection.connection.driver_connection  # type: ignore[assignment]
                try:
                    yield Unit(driver)
                    driver.commit()
                except BaseException as error:
                    if not _rolled_back(driver):
                        connection.invalidate()
                        self.renew()  # the other idle connections were lost with this one, most likely
                        if isinstance(error, psycopg.Error):
                            raise StoreAway("the database went away") from error
                    elif isinstance(error, psycopg.Error) and (error.sqlstate or "").startswith(_SERVER_UNFIT):
                        raise StoreAway(f"the database can't work: {error}") from error
                    raise
        except (OperationalError, PoolTimeout, DBAPIError) as error:
            raise StoreAway("the database can't be reached") from error

    @contextmanager
    def at_once(self) -> Iterator[Unit]:
        """One transaction that is only written: its begin, its statements and its commit go in one round trip.

        No statement's rows or row count are known in it. Raises as `unit`.
        """
        with self.unit() as unit:
            connection = unit.connection
            connection.autocommit = True  # else the driver sends a begin of its own and waits for its answer
            try:
                with unit.together():
                    unit.run("begin")
                    yield unit
                    unit.run("commit")
            finally:
                if not connection.closed:
                    connection.rollback()  # of what did not get as far as its commit
                    connection.autocommit = False

    @contextmanager
    def looked_after(self) -> Iterator[None]:
        """A connection that is had within the block is closed after it where its pool was given up meanwhile."""
        pool = self.engine.pool
        try:
            yield
        finally:
            if self.engine.pool is not pool:
                pool.dispose()  # it came back to what belongs to nobody any more

    def renew(self) -> None:
        """Close the idle connections; those in use are closed when they come back."""
        pool = self.engine.pool
        self.engine.dispose(close=False)  # first: what comes back from here on closes itself
        pool.dispose()

    def close(self) -> None:
        self.renew()


def is_passing(error: BaseException) -> bool:
    """Whether a database's error says something of the moment only: a deadlock, a lock or an answer not had in time."""
    state = error.sqlstate or "" if isinstance(error, psycopg.Error) else ""
    return state.startswith("40") or state in ("55P03", "57014")


def _rolled_back(driver: psycopg.Connection[Any]) -> bool:
    """Whether the connection is still there to say so."""
    try:
        driver.rollback()
    except psycopg.Error:
        return False
    return not driver.closed


def _commit_each(connection: psycopg.Connection[Any], _record: object) -> None:
    connection.autocommit = True


def _ids_as_text(connection: psycopg.Connection[Any], _record: object) -> None:
    connection.adapters.register_loader("uuid", TextLoader)


def array(values: Sequence[object]) -> str:
    """A PostgreSQL array literal of values that need no quoting: ids, numbers, times, our own words; None is NULL."""
    return "{" + ",".join(["NULL" if value is None else str(value) for value in values]) + "}"


def text_array(values: Sequence[str | None]) -> str:
    """A PostgreSQL array literal of any text."""
    return storable("{" + ",".join(["NULL" if value is None else _quoted(value) for value in values]) + "}")


def _quoted(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


class Leadership:
    """At most one process holds it: a session's advisory lock, gone with its connection."""

    def __init__(self, store: Store, name: str) -> None:
        self._store, self._name = store, name
        self._connection: psycopg.Connection[Any] | None = None
        self._leads = False

    def held(self) -> bool:
        """Whether this process leads now, trying to where nobody does. Raises StoreAway."""
        try:
            if self._connection is None or self._connection.closed:
                self._leads = False
                self._connection = self._connect()
            asked = "select 1" if self._leads else "select pg_try_advisory_lock(7301, hashtext(%s))"
            row = self._connection.execute(asked, () if self._leads else (self._name,)).fetchone()
        except psycopg.Error as error:
            self.give_up()
            raise StoreAway("the database can't be reached") from error
        self._leads = bool(row and row[0])
        return self._leads

    def give_up(self) -> None:
        connection, self._connection, self._leads = self._connection, None, False
        if connection is not None:
            connection.close()

    def _connect(self) -> psycopg.Connection[Any]:
        url = make_url(self._store.url).set(drivername="postgresql").render_as_string(hide_password=False)
        return psycopg.connect(
            url,
            autocommit=True,
            application_name=f"leader-{self._name}",
            options=_KEEPALIVES,
            **_CLIENT_LIMITS,
        )
