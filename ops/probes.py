"""Ways to ask whether a process is ready: each gives a function that answers at once, True or False."""

from __future__ import annotations

import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

Probe = Callable[[], bool]


def http_ok(url: str) -> Probe:
    """Ready when a GET is answered with 2xx within a second; no proxy is asked."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def probe() -> bool:
        try:
            with opener.open(url, timeout=1) as answer:
                return bool(200 <= answer.status < 300)
        except (urllib.error.URLError, OSError, ValueError):
            return False

    return probe


def file_exists(path: Path) -> Probe:
    return path.exists


def says(port: int, question: bytes, *answers: bytes) -> Probe:
    """Ready when a server on this machine answers the question with bytes that begin in one of these ways."""

    def probe() -> bool:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
                connection.sendall(question)
                return connection.recv(64).startswith(answers)
        except OSError:
            return False

    return probe


def wait_until(probe: Probe, *, timeout_s: float, every_s: float = 0.05) -> bool:
    """Ask until the answer is True; False when it still isn't after the time given."""
    end = time.monotonic() + timeout_s
    while not probe():
        if time.monotonic() >= end:
            return False
        time.sleep(every_s)
    return True
