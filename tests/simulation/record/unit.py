"""Units in memory: transactions with the semantics that the pipeline leans on, and none besides.

READ COMMITTED: a statement sees what is committed, and its own unit's writes. A row that is read for update is locked
until the unit ends; whoever wants it meanwhile waits, then reads it as it has become, or skips it. A wait ends after
three seconds, a circle of waits at once, in PostgreSQL's own errors. Inserts of one key wait for each other. A unit
commits whole or not at all, and the answer to a commit may be lost either way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import psycopg

from domain.errors import StoreAway

from ..loop import Loop, Process, Wait

LOCK_TIMEOUT_S = 3.0
IDLE_TIMEOUT_S = 5.0  # a transaction whose process is stopped for longer is ended by the server

Row = Any
_Key = tuple[str, Any]  # table, and the row's key there
TABLES = (
    "intents", "orders", "tags", "commands", "events", "attempts", "reports", "searches", "strays", "trades", "accounts",
    "watches", "claims", "buried", "group_marks", "released",
)  # fmt: skip


class Record:
    """What is committed, who holds which row, and how the database fares.

    `step` is called wherever a process may be interrupted, `now` is the database's own clock, `judge` sees each unit
    just before its writes take effect.
    """

    def __init__(self, loop: Loop, step: Callable[[str], None], now: Callable[[], datetime]) -> None:
        self.loop, self.step, self.now = loop, step, now
        self.judge: Callable[[Unit], None] = lambda unit: None
        self.fate: Callable[[], str] = lambda: "taken"  # of a commit: taken, or "lost answer", or "lost"
        self.tables: dict[str, dict[Any, Row]] = {name: {} for name in TABLES}
        self.holders: dict[_Key, Unit] = {}
        self.waiters: dict[_Key, list[Wait]] = {}
        self.open: dict[Unit, None] = {}
        self.away_until = 0.0
        self.commits = 0
        self.numbers = 0  # of identity columns

    def go_away(self, seconds: float) -> None:
        """The database stops: open units are rolled back, and none is opened for so long."""
        self.away_until = max(self.away_until, self.loop.now + seconds)
        for unit in list(self.open):
            unit.lose()

    def cut(self, process: Process) -> None:
        """The server ends the units of one process: it died, or was stopped with a transaction open."""
        for unit in [unit for unit in self.open if unit.process is process]:
            unit.lose()


class Unit:
    def __init__(self, record: Record) -> None:
        task = record.loop.current
        assert task is not None
        self.record, self.process = record, task.process
        self.writes: dict[_Key, Row] = {}  # None: deleted
        self.locked: list[_Key] = []
        self.awaits: _Key | None = None
        self.wait: Wait | None = None
        self.is_lost = False
        record.open[self] = None

    @contextmanager
    def together(self) -> Iterator[None]:
        yield

    # ---- for the functions that stand for statements

    def statement(self) -> None:
        """Each statement begins with it: here a process may be interrupted, and a lost connection is noticed."""
        self.record.step("statement")
        self._check()

    def get(self, table: str, key: Any) -> Row:
        """The row, or None."""
        at = (table, key)
        return self.writes[at] if at in self.writes else self.record.tables[table].get(key)

    def scan(self, table: str) -> list[tuple[Any, Row]]:
        """What this unit sees of a table."""
        committed = self.record.tables[table]
        if not self.writes:
            return list(committed.items())
        mine = {key: row for (name, key), row in self.writes.items() if name == table}
        return [(key, row) for key, row in {**committed, **mine}.items() if row is not None]

    def put(self, table: str, key: Any, row: Row | None) -> None:
        self.writes[(table, key)] = row

    def try_lock(self, table: str, key: Any) -> bool:
        """Lock it, unless another unit holds it: SKIP LOCKED."""
        at = (table, key)
        holder = self.record.holders.setdefault(at, self)
        if holder is not self:
            return False
        self.locked.append(at)
        return True

    def lock(self, table: str, key: Any) -> None:
        """Lock it; wait for whoever holds it. Read the row after, never before."""
        at, record = (table, key), self.record
        gives_up_at = record.loop.now + LOCK_TIMEOUT_S
        while (holder := record.holders.get(at)) is not None and holder is not self:
            self._refuse_circles(holder)
            if record.loop.now >= gives_up_at:
                raise psycopg.errors.LockNotAvailable("canceling statement due to lock timeout")
            self.awaits, self.wait = at, record.loop.this_wait()
            record.waiters.setdefault(at, []).append(self.wait)
            record.loop.park(gives_up_at - record.loop.now)
            self.awaits = self.wait = None
            self._check()
        record.holders[at] = self
        self.locked.append(at)

    def insert(self, table: str, key: Any, row: Row) -> bool:
        """Whether the key was free; one that another unit is just inserting is waited for."""
        self.lock(table, key)
        if self.get(table, key) is not None:
            return False
        self.put(table, key, row)
        return True

    # ---- its end

    def commit(self) -> None:
        record = self.record
        if not self.writes:
            self._check()
            self.close()
            return
        record.step("commit")
        self._check()
        fate = record.fate()
        if fate != "lost":
            record.judge(self)
            for (table, key), row in self.writes.items():
                if row is None:
                    record.tables[table].pop(key, None)
                else:
                    record.tables[table][key] = row
            record.commits += 1
        self.close()
        if fate != "taken":
            raise StoreAway("the database went away")
        record.step("committed")

    def lose(self) -> None:
        self.is_lost = True
        self.close()
        if self.wait is not None:
            self.record.loop.ready(self.wait)

    def close(self) -> None:
        """Its locks are free; who waited for them goes on."""
        record = self.record
        record.open.pop(self, None)
        for at in self.locked:
            if record.holders.get(at) is self:
                del record.holders[at]
                for wait in record.waiters.pop(at, ()):
                    record.loop.ready(wait)
        self.locked.clear()

    def _check(self) -> None:
        self.record.loop.check_alive()
        if self.is_lost:
            raise psycopg.OperationalError("terminating connection")

    def _refuse_circles(self, holder: Unit) -> None:
        while holder.awaits is not None:
            following = self.record.holders.get(holder.awaits)
            if following is None:
                return
            if following is self:
                raise psycopg.errors.DeadlockDetected("deadlock detected")
            holder = following


class Store:
    """Stands for `store.unit.Store`."""

    def __init__(self, record: Record) -> None:
        self._record = record

    def unit(self) -> _Opened:
        return _Opened(self._record)

    at_once = unit

    def close(self) -> None: ...


class _Opened:
    """What `with store.unit() as unit` runs through."""

    def __init__(self, record: Record) -> None:
        self._record = record
        self._unit: Unit | None = None

    def __enter__(self) -> Unit:
        record = self._record
        record.step("begin")
        if record.loop.now < record.away_until:
            raise StoreAway("the database can't be reached")
        self._unit = Unit(record)
        return self._unit

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _traceback: object) -> None:
        unit = self._unit
        assert unit is not None
        if error is None:
            try:
                unit.commit()
            except psycopg.Error as gone:
                raise StoreAway("the database went away") from gone
            finally:
                unit.close()
            return
        unit.close()
        if unit.is_lost and isinstance(error, psycopg.Error):
            raise StoreAway("the database went away") from error
