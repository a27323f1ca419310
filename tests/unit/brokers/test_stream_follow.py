"""Following a stream: over cuts, silence and refusals, with a new address each time and no secret told."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

import pytest
from given import SESSION
from websockets.asyncio.server import Request, Response, Server, ServerConnection, serve

from brokers.answers import Unfit
from brokers.base import Session
from brokers.simulator.server import until_quiet
from brokers.streams.base import Address
from brokers.streams.follow import Patience, Signal, follow, wait_s
from domain.outcomes import BookRow, Unreadable

QUICK = Patience(open_s=1.0, ping_s=5.0, close_s=0.2, first_s=0.01, most_s=0.05, refused_s=0.05)


class ToyStream:
    """A stream whose frames are a broker's order ids."""

    name = "toy"

    def __init__(self, url: str, silence_s: float | None = None) -> None:
        self.silence_s, self.url = silence_s, url
        self.addresses: list[str] = []
        self.refusals: list[Unreadable] = []

    def address(self, session: Session, *, timeout_s: float) -> Address | Unreadable:
        if self.refusals:
            return self.refusals.pop()
        self.addresses.append(f"{self.url}/?token={session.access_token}&n={len(self.addresses)}")
        return Address(self.addresses[-1])

    def row(self, frame: str | bytes) -> BookRow | None:
        if isinstance(frame, bytes):
            return None
        if frame == "junk":
            raise Unfit("junk")
        return BookRow(frame, None, None, "open", 1, 0, None)


@asynccontextmanager
async def a_server(
    talk: Callable[[ServerConnection], Awaitable[None]], **words: Any
) -> AsyncIterator[tuple[Server, str]]:
    async with serve(talk, "127.0.0.1", 0, **words) as server:
        yield server, f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    await until_quiet()


@asynccontextmanager
async def a_plain_server(
    talk: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[str]:
    async with await asyncio.start_server(talk, "127.0.0.1", 0) as server:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    await until_quiet()


class Ears:
    """Hears, and lets a test wait for as much as it expects."""

    def __init__(self) -> None:
        self.heard: list[Any] = []
        self._more = asyncio.Event()

    def __call__(self, told: BookRow | Signal) -> None:
        self.heard.append(told.broker_order_id if isinstance(told, BookRow) else told)
        self._more.set()

    async def until(self, enough: Callable[[list[Any]], bool]) -> list[Any]:
        async with asyncio.timeout(10):
            while not enough(self.heard):
                self._more.clear()
                await self._more.wait()
        return list(self.heard)


@asynccontextmanager
async def following(stream: ToyStream, patience: Patience = QUICK) -> AsyncIterator[Ears]:
    ears = Ears()
    task = asyncio.create_task(
        follow(stream, "A1", lambda: SESSION, ears, opening=asyncio.Semaphore(1), patience=patience)
    )
    try:
        yield ears
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def test_a_cut_is_followed_by_another_connection_with_an_address_of_its_own() -> None:
    async def talk(connection: ServerConnection) -> None:
        await connection.send(connection.request.path[-1])  # type: ignore[union-attr]
        connection.transport.abort()

    async def run() -> None:
        async with a_server(talk) as (_, url), following(stream := ToyStream(url)) as ears:
            heard = await ears.until(lambda heard: len(heard) >= 6)
        assert heard[:6] == [Signal.OPENED, "0", Signal.OPENED, "1", Signal.OPENED, "2"]
        assert len(set(stream.addresses)) == len(stream.addresses) >= 3

    asyncio.run(run())


def test_a_stream_that_beats_is_given_up_when_it_falls_silent() -> None:
    async def talk(connection: ServerConnection) -> None:
        for _ in range(3):
            await connection.send(b"\0")
            await asyncio.sleep(0.05)
        await connection.wait_closed()

    async def run() -> None:
        async with a_server(talk) as (_, url), following(ToyStream(url, silence_s=0.2)) as ears:
            await ears.until(lambda heard: heard.count(Signal.OPENED) == 2)

    asyncio.run(run())


def test_a_peer_that_answers_no_ping_is_given_up() -> None:
    async def serve_hollow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Shakes hands, and never says anything again."""
        import base64
        import hashlib

        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        key = next(line for line in head.split("\r\n") if line.lower().startswith("sec-websocket-key")).split(": ")[1]
        digest = hashlib.sha1(key.encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
        accept = base64.b64encode(digest).decode()
        writer.write(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Accept: {accept}\r\n\r\n".encode()
        )
        await reader.read()
        writer.close()

    async def run() -> None:
        patience = Patience(ping_s=0.1, close_s=0.1, first_s=0.01, most_s=0.01)
        async with a_plain_server(serve_hollow) as url, following(ToyStream(url), patience) as ears:
            await ears.until(lambda heard: heard.count(Signal.OPENED) == 2)

    asyncio.run(run())


def test_a_handshake_that_is_not_answered_is_given_up() -> None:
    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async def run() -> None:
        patience = Patience(open_s=0.1, first_s=0.01, most_s=0.01)
        async with a_plain_server(say_nothing) as url, following(stream := ToyStream(url), patience):
            async with asyncio.timeout(10):
                while len(stream.addresses) < 3:
                    await asyncio.sleep(0.01)

    asyncio.run(run())


def test_junk_is_told_and_the_connection_kept() -> None:
    async def talk(connection: ServerConnection) -> None:
        for frame in ("junk", "B1", b"\0", "B2"):
            await connection.send(frame)
        await connection.wait_closed()

    async def run() -> None:
        async with a_server(talk) as (_, url), following(ToyStream(url)) as ears:
            heard = await ears.until(lambda heard: len(heard) == 4)
        assert heard == [Signal.OPENED, Signal.GARBLED, "B1", "B2"]

    asyncio.run(run())


@pytest.mark.parametrize("status", [HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN])
def test_a_no_is_told_and_waited_out(status: HTTPStatus) -> None:
    async def refuse(connection: ServerConnection, request: Request) -> Response:
        return connection.respond(status, "no\n")

    async def run() -> None:
        async with (
            a_server(lambda c: c.wait_closed(), process_request=refuse) as (_, url),
            following(ToyStream(url)) as ears,
        ):
            heard = await ears.until(lambda heard: len(heard) == 2)
        assert heard == [Signal.REFUSED, Signal.REFUSED]

    asyncio.run(run())


def test_a_dead_session_is_told_and_an_unanswered_one_is_not() -> None:
    async def run() -> None:
        async with a_server(lambda c: c.wait_closed()) as (_, url):
            stream = ToyStream(url)
            stream.refusals = [Unreadable("no connection"), Unreadable("UDAPI100050", session_dead=True)]
            async with following(stream) as ears:
                heard = await ears.until(lambda heard: Signal.OPENED in heard)
        assert heard == [Signal.REFUSED, Signal.OPENED]

    asyncio.run(run())


def test_no_redirect_is_followed() -> None:
    reached = []

    async def elsewhere(connection: ServerConnection) -> None:
        reached.append(connection)

    async def run() -> None:
        async with a_server(elsewhere) as (_, other):

            async def redirect(connection: ServerConnection, request: Request) -> Response:
                response = connection.respond(HTTPStatus.FOUND, "")
                response.headers["Location"] = other
                return response

            async with a_server(lambda c: c.wait_closed(), process_request=redirect) as (_, url):
                stream = ToyStream(url)
                async with following(stream):
                    async with asyncio.timeout(10):
                        while len(stream.addresses) < 3:
                            await asyncio.sleep(0.01)

    asyncio.run(run())
    assert reached == []


def test_no_token_is_ever_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        async with a_server(lambda c: c.send("B1"), logger=logging.getLogger("server")) as (_, url):
            async with following(ToyStream(url)) as ears:
                await ears.until(lambda heard: len(heard) >= 4)
            async with following(ToyStream("ws://127.0.0.1:1")) as ears:
                await asyncio.sleep(0.05)

    logging.getLogger("server").setLevel(logging.ERROR)
    with caplog.at_level(logging.DEBUG):
        asyncio.run(run())

    assert "order stream not open" in caplog.text
    assert "hush-token" not in caplog.text + "".join(str(record.__dict__) for record in caplog.records)


def test_waits_grow_to_a_limit_and_are_drawn() -> None:
    patience = Patience(first_s=0.5, most_s=30.0, refused_s=15.0)
    draws = [[wait_s(failures, patience) for _ in range(200)] for failures in (0, 3, 50)]

    assert [max(draw) <= longest for draw, longest in zip(draws, (0.5, 4.0, 30.0), strict=True)] == [True] * 3
    assert [min(draw) < longest / 4 for draw, longest in zip(draws, (0.5, 4.0, 30.0), strict=True)] == [True] * 3
    assert min(wait_s(0, patience, refused=True) for _ in range(50)) >= 15.0
