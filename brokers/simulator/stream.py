"""A WebSocket on a connection that the web server hands over: text frames out, pings answered, closes heard."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from websockets.datastructures import Headers
from websockets.http11 import Request as Handshake
from websockets.server import ServerProtocol

from brokers.simulator.web import Request

_WAITING_MAX = 5_000


async def stream(
    request: Request,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    join: Callable[[Callable[[str], None]], Callable[[], None]],
) -> None:
    """Shake hands, then send whatever `join` was promised, until either side closes.

    A listener that falls too far behind is cut off; it has to read the book again anyway.
    """
    protocol = ServerProtocol()
    protocol.receive_data(Handshake(request.target, Headers(list(request.headers.items()))).serialize())
    handshake = next(event for event in protocol.events_received() if isinstance(event, Handshake))
    protocol.send_response(protocol.accept(handshake))
    await _flush(protocol, writer)
    if protocol.handshake_exc is not None:
        return
    waiting: asyncio.Queue[str] = asyncio.Queue(_WAITING_MAX)

    def hear(frame: str) -> None:
        try:
            waiting.put_nowait(frame)
        except asyncio.QueueFull:
            writer.transport.abort()

    leave = join(hear)
    sender = asyncio.create_task(_send(protocol, writer, waiting))
    try:
        while data := await reader.read(65_536):
            protocol.receive_data(data)
            protocol.events_received()
            await _flush(protocol, writer)
            if protocol.close_expected():
                break
    finally:
        leave()
        sender.cancel()


async def _send(protocol: ServerProtocol, writer: asyncio.StreamWriter, waiting: asyncio.Queue[str]) -> None:
    while True:
        protocol.send_text((await waiting.get()).encode())
        await _flush(protocol, writer)


async def _flush(protocol: ServerProtocol, writer: asyncio.StreamWriter) -> None:
    for data in protocol.data_to_send():
        if data:
            writer.write(data)
    await writer.drain()
