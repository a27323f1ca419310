"""Real servers for the tests: PostgreSQL, Valkey and RabbitMQ, started once for the whole run."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import psycopg
import pytest
import redis
from psycopg import sql
from shared_services import ServicesMissing, SharedServices, shared_services

from ops.services.postgres import create_database
from store.migrate import upgrade

ROOT = Path(__file__).resolve().parents[2] / ".run-test"
NUMBERS = count(1)
MISSING = pytest.StashKey[str]()


@pytest.fixture(scope="session")
def services(request: pytest.FixtureRequest) -> Iterator[SharedServices]:
    """The servers. A machine that can't run them fails in CI; elsewhere the tests are skipped, and loudly so."""
    try:
        with shared_services(ROOT) as running:
            yield running
    except ServicesMissing as error:
        if os.environ.get("CI"):
            raise
        request.config.stash[MISSING] = str(error)
        pytest.skip("the servers can't be started here")


@pytest.fixture(scope="session")
def template_database(services: SharedServices) -> Iterator[str]:
    """The name of a database at the newest revision, to be copied."""
    name = f"template_{services.slot}_{os.getpid()}_{secrets.token_hex(3)}"
    with psycopg.connect(services.superuser_database_url, autocommit=True) as connection:
        create_database(connection, name)
        upgrade(services.database_url("owner", name))
        yield name


@pytest.fixture(scope="module")
def database(services: SharedServices, template_database: str) -> Iterator[str]:
    """The name of a fresh, migrated database for one test module."""
    with _database(services, template_database) as name:
        yield name


@pytest.fixture
def own_database(services: SharedServices, template_database: str) -> Iterator[str]:
    """The name of a fresh, migrated database for one test: what it changes there, no other process sees."""
    with _database(services, template_database) as name:
        yield name


@contextmanager
def _database(services: SharedServices, template: str) -> Iterator[str]:
    name = f"test_{services.slot}_{os.getpid()}_{next(NUMBERS)}"
    with psycopg.connect(services.superuser_database_url, autocommit=True) as connection:
        create_database(connection, name, template=template)
        yield name
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture(scope="module")
def database_url(services: SharedServices, database: str) -> str:
    """As the processes connect: no DDL, and only what the migrations grant."""
    return services.database_url("app", database)


@pytest.fixture(scope="module")
def owner_database_url(services: SharedServices, database: str) -> str:
    """As migrations connect."""
    return services.database_url("owner", database)


@pytest.fixture(scope="session")
def queue_url(services: SharedServices) -> str:
    """A RabbitMQ virtual host that no other test process uses."""
    return services.queue_url


@pytest.fixture
def redis_url(services: SharedServices) -> str:
    """An empty database of Valkey's that no other test process uses."""
    with redis.Redis.from_url(services.redis_url) as client:
        client.flushdb()
    return services.redis_url


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if MISSING in config.stash:
        terminalreporter.section("NOT TESTED: the servers can't be started here", sep="!", red=True)
        terminalreporter.write_line(config.stash[MISSING])
