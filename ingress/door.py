"""The door of one process: what its operations have at hand."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Protocol

from domain.errors import Busy, Overloaded
from domain.intents import Acceptance, Submission
from domain.settings import Settings, UserSettings
from ingress.auth import Keys
from ingress.known_keys import KnownKeys
from ingress.landing import Landing
from ingress.metrics import Metrics
from ingress.operators import Operators
from ingress.recent import Recent
from ingress.throttle import Throttle
from ingress.waiters import Waiters
from readmodel.asking import Scope
from readmodel.reader import Reader
from store.users import ApiKey, Role

log = logging.getLogger(__name__)

SETTINGS_S = 1.0
_READS_ALL = frozenset({Role.AUDITOR, Role.OPERATOR, Role.ADMIN})


class Intake(Protocol):
    """Where submissions are made durable; gives at once, the future later."""

    def refuse(self) -> Overloaded | None: ...

    def submit(self, submission: Submission) -> Future[Acceptance]: ...


@dataclass(frozen=True, slots=True)
class Check:
    """One dependency: how to look at it, and whether the door can serve without it."""

    look: Callable[[], Awaitable[object]]  # raises when it is away
    needed: bool


@dataclass(eq=False, kw_only=True)
class Door:
    intake: Intake
    reader: Reader
    keys: Keys
    known_keys: KnownKeys
    throttle: Throttle
    waiters: Waiters
    read_settings: Callable[[], Settings]  # may block; asked off the event loop
    read_users: Callable[[], Mapping[str, UserSettings]] = dict  # what users have chosen; as above
    checks: Mapping[str, Check] = field(default_factory=dict)
    lines_per_call: Mapping[str, int] = field(default_factory=dict)  # by broker, as it takes them in one call
    circuit: Callable[[str], str] = lambda broker: "CLOSED"  # of a broker: OPEN or CLOSED; may block a little
    hear: Callable[[str, dict[str, str], bytes], bool] = lambda broker, headers, body: False  # a postback; may block
    operators: Operators | None = None  # for work on what is stuck
    cancellers: Operators | None = None  # for cancels: they wait for nobody else's work
    changers: Operators | None = None  # for modifies, schedules, square-offs, signal strategies, and what a cancel would reach
    switchers: Operators | None = None  # for switches and settings: they wait for nobody else's work
    follow: Callable[[], None] = lambda: None  # begins what follows turned switches, beside the caller
    noters: Operators | None = None  # for writing down who has read what
    trials: Operators | None = None  # for trying requests out
    signallers: Operators | None = None  # for what comes without a key: it waits for nobody else's work, nor others for it
    version: Mapping[str, str] = field(default_factory=dict)
    release: Callable[[], None] = lambda: None  # gives back what the door was given; may block a little
    metrics: Metrics = field(default_factory=Metrics)
    landing: Landing = field(default_factory=Landing)
    settings: Settings = field(default_factory=Settings)
    recent: Recent = field(default_factory=Recent)
    is_draining: bool = False
    _task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        with contextlib.suppress(Busy):
            self.settings = await self.reader.run(self.read_settings)
            self.recent.users = await self.reader.run(self.read_users)
        self.waiters.start()
        self._task = asyncio.create_task(self._keep_up())

    def drain(self) -> None:
        """Answer those who wait, and tell the load balancer to go elsewhere; requests are served until the end."""
        self.is_draining = True
        self.waiters.drain()

    async def close(self) -> None:
        self.drain()
        if self._task is not None:
            self._task.cancel()
        await self.waiters.stop()
        await asyncio.to_thread(self.release)
        self.reader.close()

    async def _keep_up(self) -> None:
        while True:
            await asyncio.sleep(SETTINGS_S)
            self.metrics.waiting(self.waiters.count)
            try:
                self.settings = await self.reader.run(self.read_settings)
                if self.settings.read_policy:
                    self.recent.users = await self.reader.run(self.read_users)
            except Busy as error:
                log.debug("settings stay as they were: %s", error)
            except Exception:
                log.exception("settings can't be read; they stay as they were")


def scope_of(caller: ApiKey) -> Scope:
    """Whose rows the caller sees."""
    return Scope(None if caller.role in _READS_ALL else caller.user_id)
