"""Order streams: WebSockets on connections that the web server hands over, and what can go wrong with their frames.

Nothing is replayed: who wasn't listening has missed it, as at the brokers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from websockets.datastructures import Headers
from websockets.frames import Frame, Opcode
from websockets.http11 import Request as Handshake
from websockets.server import ServerProtocol

from brokers.simulator.accounts import Accounts
from brokers.simulator.faults import FRAME, Faults, Kind
from brokers.simulator.web import Request

_WAITING_MAX = 5_000


class Ear:
    """One open stream: what is still to be sent to its listener."""

    def __init__(self, abort: Callable[[], None]) -> None:
        self._abort = abort
        self.waiting: asyncio.Queue[str] = asyncio.Queue(_WAITING_MAX)
        self.is_silent = False  # the connection stands, and nothing comes over it any more: no answer to a ping either

    def hear(self, frame: str) -> None:
        """A listener that falls too far behind is cut off; it has to read the book again anyway."""
        try:
            self.waiting.put_nowait(frame)
        except asyncio.QueueFull:
            self.cut()

    def cut(self) -> None:
        self._abort()


class Streams:
    """Who listens to which account, and the faults on the way to them."""

    def __init__(self, accounts: Accounts, faults: Faults) -> None:
        self._accounts, self._faults = accounts, faults
        self._ears: dict[str, list[Ear]] = {}
        self._held: dict[str, str] = {}  # by the fault that reorders

    def join(self, user_id: str, ear: Ear) -> Callable[[], None]:
        """Send this account's frames there, until the function given back is called."""
        ears = self._ears.setdefault(user_id, [])
        ears.append(ear)
        return lambda: ears.remove(ear)

    def count(self, facade: str) -> dict[str, int]:
        """How many streams each account has open."""
        return {name: len(ears) for name, ears in sorted(self._ears.items()) if ears and self._is_of(name, facade)}

    def has(self, user_id: str) -> bool:
        return bool(self._ears.get(user_id))

    def cut(self, facade: str, user_id: str | None = None) -> int:
        """Reset the account's streams, or everybody's; gives how many."""
        names = [name for name in self._ears if user_id in (None, name) and self._is_of(name, facade)]
        chosen = [ear for name in names for ear in self._ears[name]]
        for ear in chosen:
            ear.cut()
        return len(chosen)

    def push(self, facade: str, user_id: str, frame: str) -> None:
        if not self.has(user_id):
            return
        if not self._accounts[user_id].token_alive:
            self.cut(facade, user_id)
            return
        plan = self._faults.plan(facade, FRAME, user_id)
        if Kind.STREAM_CUT in plan:
            self.cut(facade, user_id)
            return
        if Kind.STREAM_SILENT in plan:
            for ear in self._ears[user_id]:
                ear.is_silent = True
        if Kind.FRAME_MISSING in plan:
            return
        if Kind.FRAME_DELAYED in plan:
            wait_s = plan.seconds(Kind.FRAME_DELAYED)
            asyncio.get_running_loop().call_later(wait_s, self._deliver, user_id, frame)
            return
        if Kind.FRAME_REORDERED in plan and user_id not in self._held:
            self._held[user_id] = frame
            return
        self._deliver(user_id, frame)
        if Kind.FRAME_REPEATED in plan:
            self._deliver(user_id, frame)
        if (held := self._held.pop(user_id, None)) is not None:
            self._deliver(user_id, held)

    def _is_of(self, user_id: str, facade: str) -> bool:
        return self._accounts[user_id].facade == facade

    def _deliver(self, user_id: str, frame: str) -> None:
        for ear in self._ears.get(user_id, []):
            ear.hear(frame)


async def stream(
    request: Request,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    join: Callable[[Ear], Callable[[], None]],
    *,
    heartbeat_s: float | None = None,
) -> None:
    """Shake hands, then send what the joined ear hears, until either side closes; a heartbeat is one binary byte."""
    protocol = ServerProtocol()
    protocol.receive_data(Handshake(request.target, Headers(list(request.headers.items()))).serialize())
    handshake = next(event for event in protocol.events_received() if isinstance(event, Handshake))
    protocol.send_response(protocol.accept(handshake))
    await _flush(protocol, writer)
    if protocol.handshake_exc is not None:
        return
    ear = Ear(writer.transport.abort)
    leave = join(ear)
    tasks = [asyncio.create_task(_send(protocol, writer, ear))]
    if heartbeat_s is not None:
        tasks.append(asyncio.create_task(_beat(protocol, writer, ear, heartbeat_s)))
    try:
        while data := await reader.read(65_536):
            if ear.is_silent:
                continue
            protocol.receive_data(data)
            await _flush(protocol, writer)
            if any(isinstance(event, Frame) and event.opcode is Opcode.CLOSE for event in protocol.events_received()):
                break
    finally:
        leave()
        for task in tasks:
            task.cancel()


async def _send(protocol: ServerProtocol, writer: asyncio.StreamWriter, ear: Ear) -> None:
    while True:
        frame = await ear.waiting.get()
        if not ear.is_silent:
            protocol.send_text(frame.encode())
            await _flush(protocol, writer)


async def _beat(protocol: ServerProtocol, writer: asyncio.StreamWriter, ear: Ear, every_s: float) -> None:
    while True:
        if not ear.is_silent:
            protocol.send_binary(b"\0")
            await _flush(protocol, writer)
        await asyncio.sleep(every_s)


async def _flush(protocol: ServerProtocol, writer: asyncio.StreamWriter) -> None:
    for data in protocol.data_to_send():
        if data:
            writer.write(data)
    await writer.drain()
