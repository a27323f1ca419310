"""The socket's side of a broker call: the deadline is kept here, and here it shows whether a byte of a request left."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from ssl import SSLContext
from typing import Any

import httpcore2

WRITE_S = 5.0

_BOOT_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def boot_clock() -> float:
    """Seconds since the machine started; goes on while the process or the machine sleeps, never jumps."""
    return time.clock_gettime(_BOOT_CLOCK)


@dataclass(frozen=True, slots=True)
class Deadline:
    """When a call must be over, and until when its first byte may leave; both on the boot clock."""

    ends: float
    send_by: float

    @classmethod
    def within(cls, timeout_s: float, *, send_by: float | None = None) -> Deadline:
        ends = boot_clock() + timeout_s
        return cls(ends, ends if send_by is None else min(ends, send_by))


@dataclass(slots=True)
class Exchange:
    """The call that this thread has under way."""

    deadline: Deadline
    crash: Callable[[str], None]
    wrote: bool = False

    def left_s(self, cap_s: float | None, late: type[httpcore2.TimeoutException]) -> float:
        left = self.deadline.ends - boot_clock()
        if left <= 0:
            raise late
        return left if cap_s is None else min(left, cap_s)


class Here(threading.local):
    exchange: Exchange | None = None


here = Here()


class TooLate(Exception):
    """The lease was over before the first byte could leave."""


class Connection(httpcore2.NetworkStream):
    """A connection that holds a request back until all of it is there, then sends it, if it isn't too late."""

    def __init__(self, stream: httpcore2.NetworkStream) -> None:
        self._stream = stream
        self._unsent = bytearray()

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._unsent += buffer

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        exchange = here.exchange
        assert exchange is not None
        if self._unsent:
            request, self._unsent = bytes(self._unsent), bytearray()
            exchange.crash("broker.before_send")
            if boot_clock() >= exchange.deadline.send_by:
                raise TooLate
            left_s = exchange.left_s(WRITE_S, httpcore2.WriteTimeout)
            exchange.wrote = True
            self._stream.write(request, left_s)
            exchange.crash("broker.after_send")
        return self._stream.read(max_bytes, exchange.left_s(timeout, httpcore2.ReadTimeout))

    def start_tls(
        self, ssl_context: SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.NetworkStream:
        exchange = here.exchange
        assert exchange is not None
        left_s = exchange.left_s(timeout, httpcore2.ConnectTimeout)
        return Connection(self._stream.start_tls(ssl_context, server_hostname, left_s))

    def close(self) -> None:
        self._stream.close()

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class Network(httpcore2.SyncBackend):
    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.NetworkStream:
        exchange = here.exchange
        assert exchange is not None
        left_s = exchange.left_s(timeout, httpcore2.ConnectTimeout)
        return Connection(super().connect_tcp(host, port, left_s, local_address, socket_options))
