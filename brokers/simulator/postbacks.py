"""Tells accounts of changes: POSTs to their postback URL, and frames to whoever has their stream open.

Deliveries to one account keep their order. None is tried twice: brokers don't promise it either.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import urlsplit

from brokers.simulator.accounts import Accounts
from brokers.simulator.book import Row, SimOrder
from brokers.simulator.faults import POSTBACK, Faults, Kind
from brokers.simulator.stream import Streams

log = logging.getLogger(__name__)

_DEADLINE_S = 5.0
_WAITING_MAX = 10_000


class Teller(Protocol):
    """What a broker says of a change: to the postback URL, and on its stream; None where it says nothing."""

    name: str

    def push(self, order: SimOrder, row: Row) -> bytes | None: ...
    def stream(self, order: SimOrder, row: Row) -> str | None: ...


@dataclass(slots=True)
class _Outbox:
    waiting: deque[tuple[str, bytes]] = field(default_factory=lambda: deque(maxlen=_WAITING_MAX))
    held: tuple[str, bytes] | None = None  # by the fault that reorders
    task: asyncio.Task[None] | None = None


class Postbacks:
    def __init__(self, accounts: Accounts, faults: Faults, wake: Callable[[], None]) -> None:
        """`wake` tells the server that the exchange has something new to do."""
        self._accounts, self._faults, self.wake = accounts, faults, wake
        self.streams = Streams(accounts, faults)
        self._facades: dict[str, Teller] = {}
        self._outboxes: dict[str, _Outbox] = {}
        self.delivered = self.failed = 0

    def speak_for(self, facade: Teller) -> None:
        self._facades[facade.name] = facade

    def __call__(self, order: SimOrder, row: Row) -> None:
        facade = self._facades.get(order.facade)
        if facade is None:
            return
        account = self._accounts[order.account]
        if self.streams.has(account.user_id) and (frame := facade.stream(order, row)) is not None:
            self.streams.push(facade.name, account.user_id, frame)
        if account.postback_url is None or (body := facade.push(order, row)) is None:
            return
        self._post(account.user_id, facade.name, (account.postback_url, body))

    def _post(self, user_id: str, facade: str, letter: tuple[str, bytes]) -> None:
        plan = self._faults.plan(facade, POSTBACK, user_id)
        box = self._outboxes.setdefault(user_id, _Outbox())
        if Kind.POSTBACK_MISSING in plan:
            return
        if Kind.POSTBACK_REORDERED in plan and box.held is None:
            box.held = letter
            return
        box.waiting.append(letter)
        if Kind.POSTBACK_REPEATED in plan:
            box.waiting.append(letter)
        if box.held is not None:
            box.waiting.append(box.held)
            box.held = None
        if box.task is None or box.task.done():
            box.task = asyncio.get_running_loop().create_task(self._empty(box))

    async def _empty(self, box: _Outbox) -> None:
        while box.waiting:
            url, body = box.waiting.popleft()
            try:
                async with asyncio.timeout(_DEADLINE_S):
                    await _post(url, body)
                self.delivered += 1
            except (OSError, TimeoutError) as error:
                self.failed += 1
                log.info("postback not delivered", extra={"url": url, "error": str(error)})

    async def stop(self) -> None:
        tasks = [box.task for box in self._outboxes.values() if box.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _post(url: str, body: bytes) -> None:
    """
    Raises:
        OSError: no connection, or no answer.
    """
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    port = parts.port or (443 if secure else 80)
    reader, writer = await asyncio.open_connection(parts.hostname, port, ssl=secure or None)
    try:
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        head = (
            f"POST {path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        writer.write(head.encode() + body)
        await writer.drain()
        if not await reader.readline():
            raise ConnectionError("closed without an answer")
    finally:
        writer.close()
