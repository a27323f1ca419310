"""Following one account's stream: connect, hand over what comes, notice when nothing comes any more, connect again.

Beside the transport this is the one place with a connection to a broker, and it sends nothing but a handshake and
pings. A connection is given up when its handshake, or a pong, takes too long, or a stream that beats falls silent.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from brokers.answers import Unfit
from brokers.base import Session
from brokers.streams.base import Address, OrderStream
from domain.outcomes import BookRow, Unreadable

log = logging.getLogger(__name__)
# The library writes addresses and headers, tokens among them, into its debug lines: it gets a logger without these.
_quiet = logging.getLogger("brokers.streams.quiet")
_quiet.setLevel(logging.WARNING)

FRAME_MAX_BYTES = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long a connection is waited for, and how long until the next one is tried."""

    open_s: float = 4.0  # for the address, and again for the handshake
    ping_s: float = 10.0  # between pings, and for a pong
    close_s: float = 1.0
    first_s: float = 0.5  # each failure doubles it, and a draw takes a part of it
    most_s: float = 30.0
    refused_s: float = 15.0  # at least, after a no: a dead token doesn't come back to life by itself
    stood_s: float = 10.0  # a connection that stood so long makes up for the failures before it


class Signal(Enum):
    OPENED = auto()  # from now on it tells; what was before is in the book alone
    GARBLED = auto()  # something was told that can't be read
    REFUSED = auto()  # the broker doesn't let this session in


Hear = Callable[[BookRow | Signal], None]


async def follow(
    stream: OrderStream,
    account_id: str,
    session_of: Callable[[], Session],
    hear: Hear,
    *,
    opening: asyncio.Semaphore,
    patience: Patience | None = None,
) -> None:
    """Tell `hear` what the account's stream says, over as many connections as it takes, until cancelled.

    Args:
        session_of: the account's session as it is then; may read the record, so it runs in a thread.
        opening: how many connections may be under way at a time, for all streams together.
    """
    patience = patience or Patience()
    failures = 0
    while True:
        began = time.monotonic()
        refused = False
        try:
            async with opening:
                address = await asyncio.to_thread(_address, stream, session_of, patience.open_s)
                if isinstance(address, Unreadable):
                    raise _NoAddress(address)
                connection = await _connect(address, patience)
            try:
                hear(Signal.OPENED)
                began = time.monotonic()
                await _listen(connection, stream, hear)
            finally:
                await connection.close()
        except Exception as error:  # noqa: BLE001 - whatever a broker, the network or the record did: connect again
            refused = _is_no(error)
            log.info("order stream not open", extra={"account": account_id, "why": _told(error)})
        if refused:
            hear(Signal.REFUSED)
        failures = 0 if time.monotonic() - began >= patience.stood_s else failures + 1
        await asyncio.sleep(wait_s(failures, patience, refused=refused))


def wait_s(failures: int, patience: Patience, *, refused: bool = False) -> float:
    """Drawn anew each time, so that the streams of a broker that came back don't all come at once."""
    longest = min(patience.most_s, patience.first_s * 2 ** min(failures, 16))
    return patience.refused_s * refused + random.uniform(0, longest)


class _NoAddress(Exception):
    def __init__(self, answer: Unreadable) -> None:
        super().__init__(answer.why)
        self.session_dead = answer.session_dead


class _NoRedirects(connect):
    """A redirect would carry the session to wherever an answer says."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


def _address(stream: OrderStream, session_of: Callable[[], Session], timeout_s: float) -> Address | Unreadable:
    return stream.address(session_of(), timeout_s=timeout_s)


async def _connect(address: Address, patience: Patience) -> ClientConnection:
    return await _NoRedirects(
        address.url,
        additional_headers=dict(address.headers),
        proxy=None,
        compression=None,
        open_timeout=patience.open_s,
        ping_interval=patience.ping_s,
        ping_timeout=patience.ping_s,
        close_timeout=patience.close_s,
        max_size=FRAME_MAX_BYTES,
        logger=_quiet,
    )


async def _listen(connection: ClientConnection, stream: OrderStream, hear: Hear) -> None:
    """Until it ends. Raises TimeoutError where a stream that beats has fallen silent."""
    while True:
        async with asyncio.timeout(stream.silence_s):
            frame = await connection.recv()
        try:
            row = stream.row(frame)
        except Unfit as unfit:
            log.warning("a frame can't be read", extra={"broker": stream.name, "why": str(unfit)})
            hear(Signal.GARBLED)
            continue
        if row is not None:
            hear(row)


def _is_no(error: Exception) -> bool:
    """Whether the broker answered, and doesn't let this session in."""
    if isinstance(error, _NoAddress):
        return error.session_dead
    return isinstance(error, InvalidStatus) and error.response.status_code in (401, 403)


def _told(error: Exception) -> str:
    """In words that carry no address: an error's own may."""
    if isinstance(error, InvalidStatus):
        return f"the handshake was answered with {error.response.status_code}"
    if isinstance(error, _NoAddress):
        return str(error)
    if isinstance(error, ConnectionClosed):
        return "the connection ended"
    if isinstance(error, TimeoutError):
        return "nothing came in time"
    if isinstance(error, OSError | WebSocketException):
        return type(error).__name__
    log.error("an order stream failed", exc_info=error)
    return type(error).__name__
