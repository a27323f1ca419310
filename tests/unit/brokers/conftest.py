from __future__ import annotations

from collections.abc import Iterator

import pytest
from own_valkey import own_valkey
from redis import Redis


@pytest.fixture(scope="session")
def valkey_socket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with own_valkey(tmp_path_factory.mktemp("valkey")) as path:
        yield path


@pytest.fixture
def redis(valkey_socket: str) -> Iterator[Redis]:
    with Redis(unix_socket_path=valkey_socket) as client:
        client.flushall()
        yield client
