"""The listening process, `python -m pipeline.listen`: holds accounts' order streams, and writes down what they tell.

Any number of these processes share the accounts by lease rows. All streams of one live in one thread; a second one
writes to the record, a third keeps the leases.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from brokers.streams.base import OrderStream
from brokers.streams.follow import Patience, Signal, follow
from domain.errors import StoreAway
from domain.ids import new_id
from domain.outcomes import BookRow
from pipeline import logs
from pipeline.chain import reports_stage
from pipeline.crash import crash
from pipeline.desk import Desk, from_env
from pipeline.updates import Inbox, Update
from store import stream_leases, stream_updates

log = logging.getLogger(__name__)

LEASE_S = 9.0
TICK_S = 2.0  # so that a dead process's accounts are another's within LEASE_S + TICK_S
OPENING_MAX = 16  # connections under way at a time
GATHER_S = 0.005  # updates that come so close together are written down together
WRITE_MAX = 500
WAITING_MAX = 20_000
HINT_S = 0.1  # hints that come so close together are one
RETRY_S = 0.5
STOP_S = 2.0  # for connections to close and for what was heard to be written down


class Listener:
    """Holds its share of all accounts' streams."""

    def __init__(
        self, desk: Desk, streams: Mapping[str, OrderStream], *, name: str, patience: Patience | None = None
    ) -> None:
        self._desk, self._streams, self.name, self._patience = desk, dict(streams), name, patience
        self._inbox = Inbox(desk)
        self._following: dict[str, asyncio.Task[None]] = {}
        self._waiting: asyncio.Queue[Update] = asyncio.Queue(WAITING_MAX)
        self._hinted: set[str] = set()
        self._opening = asyncio.Semaphore(OPENING_MAX)
        self._threads = {
            work: ThreadPoolExecutor(1, thread_name_prefix=f"listen-{work}") for work in ("leases", "updates")
        }

    @property
    def held(self) -> list[str]:
        return sorted(self._following)

    async def run(self, stopping: asyncio.Event) -> None:
        """Listen until told to stop; then give back what is held, so that others needn't wait for its lease to end."""
        writing = asyncio.create_task(self._write_all())
        try:
            while not stopping.is_set():
                began = time.monotonic()
                await self._tick()
                with suppress(TimeoutError):
                    async with asyncio.timeout(max(0.1, TICK_S - (time.monotonic() - began))):
                        await stopping.wait()
        finally:
            await self._stop_following(*self._following)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._waiting.join(), STOP_S)
            writing.cancel()
            with suppress(StoreAway, TimeoutError):
                await asyncio.wait_for(self._in_thread("leases", self._leave), STOP_S)
            for threads in self._threads.values():
                threads.shutdown(wait=False, cancel_futures=True)

    async def _tick(self) -> None:
        try:
            mine = await self._in_thread("leases", partial(self._keep_leases, self.held))
        except StoreAway as error:
            # The streams stay: nobody else can take them now, and what they tell is kept until it can be written down.
            log.warning("no leases: %s", error)
            return
        except Exception:
            log.exception("the leases could not be kept; the next look tries again")
            return
        await self._stop_following(*(set(self._following) - set(mine)))
        for account_id in [account_id for account_id, task in self._following.items() if task.done()]:
            log.error("a stream was followed no more", extra={"account": account_id})
            del self._following[account_id]
        for account_id, broker in mine.items():
            if account_id not in self._following:
                self._following[account_id] = asyncio.create_task(self._follow(account_id, broker))

    def _keep_leases(self, held: list[str]) -> dict[str, str]:
        """The accounts that are this process's from now on, with their brokers."""
        brokers, desk = list(self._streams), self._desk
        with desk.store.unit() as unit:
            listeners = stream_leases.be_present(unit, self.name, LEASE_S)
            share = -(-stream_leases.count_wanted(unit, brokers) // listeners)
            mine = stream_leases.renew(unit, self.name, held, LEASE_S)
            unwanted = sorted({*held} - {*mine}) + mine[share:]
            stream_leases.give_back(unit, self.name, unwanted)
            mine = mine[:share]
            if len(mine) < share:
                mine += stream_leases.take(unit, self.name, brokers, share - len(mine), LEASE_S)
            stream_updates.forget_read_trades(unit)
            crash("listen.leases.before_commit")
        accounts = desk.directory().by_id
        return {account_id: accounts[account_id].broker for account_id in mine if account_id in accounts}

    def _leave(self) -> None:
        with self._desk.store.unit() as unit:
            stream_leases.leave(unit, self.name)
            crash("listen.leave.before_commit")

    async def _follow(self, account_id: str, broker: str) -> None:
        await follow(
            self._streams[broker],
            account_id,
            lambda: self._desk.session(account_id),
            partial(self._hear, account_id, broker),
            opening=self._opening,
            patience=self._patience,
        )

    async def _stop_following(self, *account_ids: str) -> None:
        tasks = [self._following.pop(account_id) for account_id in account_ids]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=STOP_S)

    def _hear(self, account_id: str, broker: str, heard: BookRow | Signal) -> None:
        if isinstance(heard, Signal):
            # Opened: what was told before is in the book alone. Garbled or refused: a read shows what is the matter.
            self._hint(broker)
            return
        try:
            self._waiting.put_nowait(Update(account_id, heard))
        except asyncio.QueueFull:
            self._hint(broker)

    def _hint(self, broker: str) -> None:
        """Have the broker's books read, a moment from now."""
        if broker not in self._hinted:
            self._hinted.add(broker)
            asyncio.get_running_loop().call_later(HINT_S, self._wake_for_books, broker)

    def _wake_for_books(self, broker: str) -> None:
        self._hinted.discard(broker)
        self._desk.wakeups.wake(reports_stage(broker))

    async def _write_all(self) -> None:
        while True:
            updates = [await self._waiting.get()]
            await asyncio.sleep(GATHER_S)
            while len(updates) < WRITE_MAX and not self._waiting.empty():
                updates.append(self._waiting.get_nowait())
            await self._write(updates)
            for _ in updates:
                self._waiting.task_done()

    async def _write(self, updates: list[Update]) -> None:
        """Until the record takes them; updates that it can't take for what they are become hints."""
        while True:
            try:
                hints = await self._in_thread("updates", partial(self._inbox.write, updates))
            except StoreAway as error:
                log.warning("%d updates wait: %s", len(updates), error)
                await asyncio.sleep(RETRY_S)
                continue
            except Exception:
                log.exception("updates could not be written down; the books are read instead")
                hints = set(self._streams)
            for broker in hints:
                self._hint(broker)
            return

    def _in_thread(self, work: str, do: Callable[[], Any]) -> Coroutine[Any, Any, Any]:
        async def done() -> Any:
            return await asyncio.get_running_loop().run_in_executor(self._threads[work], do)

        return done()


def main() -> int:
    from brokers.streams import registry

    logs.begin()
    name = f"listen-{new_id()}"
    desk = from_env("listen", pool_size=3)
    desk.wakeups.start()
    asyncio.run(_listen(Listener(desk, registry.build(os.environ), name=name)))
    desk.close()
    return 0


async def _listen(listener: Listener) -> None:
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    if ready_file := os.environ.get("READY_FILE"):
        Path(ready_file).touch()
    await listener.run(stopping)


if __name__ == "__main__":
    sys.exit(main())
