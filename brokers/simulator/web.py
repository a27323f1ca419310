"""A small HTTP/1.1 server that can also do what a server never should: drop, reset, cut or drip an answer.

h11 speaks the protocol; asyncio's streams carry it. Keep-alive, chunked bodies and `Expect: 100-continue` work; a
body is bounded.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from functools import cached_property
from http import HTTPStatus
from ssl import SSLContext
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import h11
import orjson

log = logging.getLogger(__name__)

BODY_MAX = 4 * 1024 * 1024
_IDLE_S = 120
_READ = 65_536


@dataclass(frozen=True)
class Request:
    method: str
    target: str
    headers: Mapping[str, str]  # names in lower case
    body: bytes

    @cached_property
    def path(self) -> str:
        return unquote(urlsplit(self.target).path)

    @cached_property
    def query(self) -> dict[str, list[str]]:
        return parse_qs(urlsplit(self.target).query, keep_blank_values=True)

    @cached_property
    def form(self) -> dict[str, str]:
        fields = parse_qs(self.body.decode("utf-8", "replace"), keep_blank_values=True)
        return {name: values[-1] for name, values in fields.items()}

    def first(self, name: str) -> str | None:
        """A query parameter, or None where it is missing or empty."""
        values = self.query.get(name)
        return values[-1] or None if values else None


class Delivery(Enum):
    WHOLE = auto()
    DROP = auto()  # close without a word
    RESET = auto()  # ... by a TCP reset
    CUT = auto()  # half of the body, then a TCP reset
    DRIP = auto()  # byte by byte


@dataclass(frozen=True, kw_only=True)
class Answer:
    status: int = 200
    body: bytes = b""
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()
    delivery: Delivery = Delivery.WHOLE
    drip_s: float = 0.0


@dataclass(frozen=True)
class Upgrade:
    """Instead of an answer: the connection is handed over, with the request that asked for it."""

    take: Callable[[Request, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
    answer: Answer = field(default_factory=lambda: Answer(status=426))


Handler = Callable[[Request], Awaitable[Answer | Upgrade]]


def json_answer(content: Any, status: int = 200, headers: tuple[tuple[str, str], ...] = ()) -> Answer:
    """Decimals become numbers: the wire's floats are made here and nowhere else."""
    return Answer(status=status, body=orjson.dumps(content, default=float), headers=headers)


class WebServer:
    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def start(self, host: str, port: int, *, tls: SSLContext | None = None) -> int:
        """The port it listens at: the one given, or for 0 a free one."""
        self._server = await asyncio.start_server(self._connected, host, port, backlog=1024, ssl=tls)
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in list(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            await _Connection(reader, writer, self._handler).serve()
        except (ConnectionError, TimeoutError, asyncio.CancelledError):
            pass  # the client went away, or we are stopping: either way there is nobody to tell
        finally:
            self._connections.discard(task)
            writer.close()


class _Connection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, handler: Handler) -> None:
        self._reader, self._writer, self._handler = reader, writer, handler
        self._http = h11.Connection(h11.SERVER)

    async def serve(self) -> None:
        while True:
            try:
                request = await self._next_request()
            except h11.RemoteProtocolError as error:
                await self._refuse(error.error_status_hint)
                return
            if request is None:
                return
            answer = await self._handle(request)
            if isinstance(answer, Upgrade):
                await answer.take(request, self._reader, self._writer)
                return
            if not await self._deliver(answer, bodiless=request.method == "HEAD"):
                return
            if self._http.our_state is h11.MUST_CLOSE or self._http.their_state is not h11.DONE:
                return
            self._http.start_next_cycle()

    async def _handle(self, request: Request) -> Answer | Upgrade:
        """A fault of our own is told as one, and doesn't take the connection with it."""
        try:
            return await self._handler(request)
        except Exception:
            log.exception("request failed", extra={"method": request.method, "path": request.path})
            return Answer(status=500, body=b"the simulator itself failed; its log says why", content_type="text/plain")

    async def _next_request(self) -> Request | None:
        """The next request, or None where the client has closed or is idle for too long."""
        head: h11.Request | None = None
        body = bytearray()
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                if self._http.they_are_waiting_for_100_continue:
                    await self._send(h11.InformationalResponse(status_code=100, headers=[]))
                async with asyncio.timeout(_IDLE_S):
                    self._http.receive_data(await self._reader.read(_READ))
            elif isinstance(event, h11.Request):
                head = event
            elif isinstance(event, h11.Data):
                body += event.data
                if len(body) > BODY_MAX:
                    raise h11.RemoteProtocolError("body too large", error_status_hint=413)
            elif isinstance(event, h11.EndOfMessage):
                assert head is not None
                headers = {name.decode(): value.decode("latin-1") for name, value in head.headers}
                return Request(head.method.decode(), head.target.decode("latin-1"), headers, bytes(body))
            else:
                return None

    async def _deliver(self, answer: Answer, *, bodiless: bool) -> bool:
        """Send it the way it wants to be sent; False where the connection is gone with it."""
        if answer.delivery is Delivery.DROP:
            return False
        if answer.delivery is Delivery.RESET:
            self._reset()
            return False
        headers = [("Content-Length", str(len(answer.body))), *answer.headers]
        if answer.content_type:
            headers.append(("Content-Type", answer.content_type))
        head = self._http.send(h11.Response(status_code=answer.status, headers=headers, reason=_reason(answer.status)))
        body = b"" if bodiless else answer.body
        assert head is not None
        if answer.delivery is Delivery.CUT:
            self._writer.write(head + body[: len(body) // 2])
            await self._writer.drain()
            self._reset()
            return False
        if answer.delivery is Delivery.DRIP:
            await self._drip(head + body, answer.drip_s)
        else:
            self._writer.write(head + body)
        self._http.send(h11.Data(data=body))
        self._http.send(h11.EndOfMessage())
        await self._writer.drain()
        return True

    async def _drip(self, content: bytes, over_s: float) -> None:
        for at in range(len(content)):
            self._writer.write(content[at : at + 1])
            await self._writer.drain()
            await asyncio.sleep(over_s / len(content))

    async def _send(self, event: h11.InformationalResponse) -> None:
        content = self._http.send(event)
        if content:
            self._writer.write(content)
            await self._writer.drain()

    async def _refuse(self, status: int) -> None:
        with contextlib.suppress(h11.LocalProtocolError):
            await self._deliver(Answer(status=status, headers=(("Connection", "close"),)), bodiless=False)

    def _reset(self) -> None:
        """Close by a TCP reset: lingering for no time at all discards what is unsent."""
        connection = self._writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()


def _reason(status: int) -> bytes:
    try:
        return HTTPStatus(status).phrase.encode()
    except ValueError:
        return b""
