"""An empty record for every engine test, with a user and four accounts at one broker."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator

import psycopg
import pytest
from house import ACCOUNTS, BROKER, SECRET, House
from plans import Plans
from psycopg import sql
from shared_services import SharedServices

from ops.sandbox import seed
from ops.services.postgres import create_database

PLANS = Plans()
KEPT = {"users", "accounts", "api_keys", "alembic_version"}


@pytest.fixture(scope="session")
def superuser(services: SharedServices) -> Iterator[psycopg.Connection]:
    with psycopg.connect(services.superuser_database_url, autocommit=True) as connection:
        yield connection


@pytest.fixture(scope="session")
def furnished(services: SharedServices, superuser: psycopg.Connection, template_database: str) -> Iterator[str]:
    """The name of a database for all engine tests of this process."""
    name = f"house_{os.getpid()}_{secrets.token_hex(3)}"  # another folder's tests may have one in the same process
    create_database(superuser, name, template=template_database)
    seed(services.database_url("app", name), secret=SECRET, accounts=ACCOUNTS)
    yield name
    superuser.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture(scope="session")
def cleaner(services: SharedServices, furnished: str) -> Iterator[psycopg.Connection]:
    """May delete even what is append-only: a superuser whose session heeds no trigger."""
    url = services.superuser_database_url.rpartition("/")[0] + f"/{furnished}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("set session_replication_role = replica")
        yield connection


@pytest.fixture(scope="module", autouse=True)
def reads_by_key(services: SharedServices, template_database: str) -> Iterator[None]:
    """What the module's tests have our code ask of the record reads large tables by key."""
    with PLANS.watching():
        yield
    bad = PLANS.bad_ones(services.database_url("app", template_database))
    assert not bad, "read a large table otherwise than by key:" + "".join(bad)


@pytest.fixture
def house(services: SharedServices, furnished: str, cleaner: psycopg.Connection) -> Iterator[House]:
    tables = cleaner.execute(
        "select relname from pg_class where relkind in ('r', 'p') and not relispartition"
        " and relnamespace = 'public'::regnamespace"
    ).fetchall()
    for (table,) in tables:
        if table not in KEPT:
            cleaner.execute(sql.SQL("delete from {}").format(sql.Identifier(table)))
    cleaner.execute(
        "update accounts set limit_paise = 10000000000000, blocked_paise = 0, exposure_paise = 0, open_orders = 0,"
        " second = 0, orders_this_second = 0, session = 'ALIVE', calendar = 'SIM', broker = %s, is_default = %s",
        (BROKER, ACCOUNTS[0].is_default),
    )
    user_id = cleaner.execute("select id from users").fetchone()[0]  # type: ignore[index]
    house = House(services.database_url("app", furnished), services.database_url("owner", furnished), str(user_id))
    yield house
    house.close()
