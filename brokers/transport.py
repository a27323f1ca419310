"""The one place where a broker is called: one request, at most once, inside a deadline.

Three ends of a call, and the line between the last two is a proof, not an exception's name: the connection counts
whether a byte of the request was handed to the operating system.

    Answered    an HTTP answer, whole
    NeverSent   no byte of the request left this process: it may be sent again
    Lost        bytes left and no whole answer came back: nobody knows

Nothing is sent again here, no redirect is followed, no proxy or cookie is taken from anywhere. The requests run on
httpcore2, the engine of httpx2, because the proof and the total deadline both sit at the socket, which httpx2 hides.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from ssl import SSLContext
from typing import Any
from urllib.parse import urlsplit

import httpcore2

from brokers.answers import Unfit, parse_json, unpack
from brokers.sockets import WRITE_S, Exchange, Network, TooLate, here
from brokers.sockets import Deadline as Deadline
from brokers.sockets import boot_clock as boot_clock

log = logging.getLogger(__name__)

CONNECT_S = 3.0
POOL_S = 1.0  # for one of our own connections to come free
KEEP_IDLE_S = 20.0  # shorter than any broker's own idle limit, so that it isn't the broker who closes first
CONNECTIONS = 32
ANSWER_MAX_BYTES = 1_000_000
BOOK_MAX_BYTES = 32_000_000  # 5,000 orders, a broker's daily cap, come to 5 MB
TEXT_KEPT = 500


@dataclass(frozen=True, slots=True)
class Answered:
    status: int
    body: Any  # the JSON, its fractions as Decimal; None where the body is no JSON
    text: str  # the body's first characters
    headers: Mapping[str, str]  # names in lower case
    latency_s: float


@dataclass(frozen=True, slots=True)
class NeverSent:
    why: str


@dataclass(frozen=True, slots=True)
class Lost:
    why: str


Answer = Answered | NeverSent | Lost


@dataclass(frozen=True, slots=True)
class Call:
    """What a watcher is told of a call; it carries no secret."""

    broker: str
    operation: str  # place, modify, cancel, book, trades, funds


def _nothing(point: str) -> None: ...


crash: Callable[[str], None] = _nothing  # a chaos run sets it; points before and after the bytes, and after the answer
watchers: list[Callable[[Call, Answer], None]] = []  # told of each call's end: tracing, metrics, circuits


class Wire:
    """The way to one base URL: a pool of kept-alive HTTP/1.1 connections, made at first use in each process."""

    def __init__(self, broker: str, base_url: str, *, tls: SSLContext | None = None) -> None:
        url = urlsplit(base_url)
        if url.scheme not in ("http", "https") or not url.hostname or url.query or url.username:
            raise ValueError(f"{broker}: a base URL is http(s)://host[:port][/path], not {base_url!r}")
        self.broker = broker
        self.base_url = base_url.rstrip("/")
        self._scheme, self._hostname, self._port = url.scheme.encode(), url.hostname.encode("idna"), url.port
        self._host = url.netloc.encode("idna")
        self._path = url.path.rstrip("/")
        self._tls = tls
        self._lock = threading.Lock()
        self._pool: httpcore2.ConnectionPool | None = None
        self._pid = 0

    def call(
        self,
        operation: str,
        method: str,
        target: str,
        *,
        headers: Mapping[str, str],
        deadline: Deadline,
        content: bytes = b"",
        answer_max_bytes: int = ANSWER_MAX_BYTES,
    ) -> Answer:
        """One request and its answer. `target` is path and query, escaped. Raises nothing but an interrupt."""
        exchange = Exchange(deadline, crash)
        here.exchange = exchange
        try:
            answer: Answer = self._exchange(method, target, headers, content, deadline, answer_max_bytes)
        except Exception as error:  # noqa: BLE001 - whatever it was, what counts is whether bytes left
            why = _told(error)
            answer = Lost(why) if exchange.wrote else NeverSent(why)
        finally:
            here.exchange = None
        crash("broker.after_answer")
        self._tell(Call(self.broker, operation), answer)
        return answer

    def close(self) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.close()

    def _exchange(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str],
        content: bytes,
        deadline: Deadline,
        answer_max_bytes: int,
    ) -> Answered:
        started = time.perf_counter()
        response = self._connections().handle_request(
            httpcore2.Request(
                method.encode("ascii"),
                httpcore2.URL(
                    scheme=self._scheme,
                    host=self._hostname,
                    port=self._port,
                    target=(self._path + target).encode("ascii"),
                ),
                headers=[
                    *self._framing(method, content),
                    *((k.encode("ascii"), v.encode("ascii")) for k, v in headers.items()),
                ],
                content=content,
                extensions={"timeout": {"connect": CONNECT_S, "pool": POOL_S, "write": WRITE_S, "read": None}},
            )
        )
        raw = bytearray()
        try:
            for chunk in response.iter_stream():
                raw += chunk
                if len(raw) > answer_max_bytes:
                    raise Unfit(f"the answer is longer than {answer_max_bytes} bytes")
        finally:
            response.close()
        names = {k.decode("latin-1").lower(): v.decode("latin-1") for k, v in response.headers}
        plain = unpack(bytes(raw), names.get("content-encoding"), answer_max_bytes)
        return Answered(
            status=response.status,
            body=parse_json(plain),
            text=plain[:TEXT_KEPT].decode("utf-8", "replace"),
            headers=names,
            latency_s=time.perf_counter() - started,
        )

    def _framing(self, method: str, content: bytes) -> Iterable[tuple[bytes, bytes]]:
        yield b"Host", self._host
        if method == "GET":
            yield b"Accept-Encoding", b"gzip"
        else:
            yield b"Accept-Encoding", b"identity"
            yield b"Content-Length", str(len(content)).encode()

    def _connections(self) -> httpcore2.ConnectionPool:
        """The pool of this process; one made before a fork is left to the parent."""
        pool = self._pool
        if pool is None or self._pid != os.getpid():
            with self._lock:
                if self._pool is None or self._pid != os.getpid():
                    self._pool = httpcore2.ConnectionPool(
                        ssl_context=self._tls,
                        max_connections=CONNECTIONS,
                        keepalive_expiry=KEEP_IDLE_S,
                        network_backend=Network(),
                    )
                    self._pid = os.getpid()
                    weakref.finalize(self, self._pool.close).atexit = False
                pool = self._pool
        return pool

    def _tell(self, call: Call, answer: Answer) -> None:
        for watcher in watchers:
            try:
                watcher(call, answer)
            except Exception:  # an answer in hand is worth more than its telling
                log.warning("a watcher of broker calls failed", extra={"operation": call.operation}, exc_info=True)


# The words for each end of a call. Only network errors add their own text: a protocol error's may quote our headers.
_WORDS: tuple[tuple[type[Exception], str], ...] = (
    (TooLate, "the time to send it was over"),
    (Unfit, ""),
    (httpcore2.ConnectTimeout, "no connection in time"),
    (httpcore2.PoolTimeout, "no connection of ours came free in time"),
    (httpcore2.ConnectError, "no connection"),
    (httpcore2.WriteTimeout, "the request didn't get out in time"),
    (httpcore2.ReadTimeout, "no whole answer in time"),
    (httpcore2.NetworkError, "the connection broke"),
    (httpcore2.RemoteProtocolError, "the answer was cut short or no HTTP"),
    (httpcore2.LocalProtocolError, "the request is no valid HTTP"),
)


def _told(error: Exception) -> str:
    for kind, words in _WORDS:
        if isinstance(error, kind):
            if isinstance(error, Unfit):
                return str(error)
            return f"{words}: {error}" if isinstance(error, httpcore2.NetworkError) and str(error) else words
    return type(error).__name__
