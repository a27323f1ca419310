"""Brings a database's schema to the newest revision; run as the owner, never by the app's role."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, make_url, text

MIGRATIONS = Path(__file__).parent / "migrations"
_ONE_MIGRATION_AT_A_TIME = 7_301_955  # advisory lock: two starts side by side must not race


def upgrade(owner_url: str, *, app_role: str = "app") -> tuple[str | None, str | None]:
    """Upgrade to the newest revision and make the partitions of the next three months.

    Returns the revision before and after. `app_role` is the role the processes connect as; it must exist.
    """
    engine = engine_for(owner_url)
    try:
        with engine.connect() as connection:
            connection.execute(text("select pg_advisory_lock(:key)"), {"key": _ONE_MIGRATION_AT_A_TIME})
            connection.commit()
            before = revision(connection)
            config = Config()
            config.set_main_option("script_location", str(MIGRATIONS))
            config.attributes["connection"] = connection
            config.attributes["app_role"] = app_role
            command.upgrade(config, "head")
            connection.execute(text("select make_partitions(3)"))
            connection.commit()
            return before, revision(connection)
    finally:
        engine.dispose()  # the session ends, and the lock with it


def revision(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def newest() -> str | None:
    """The newest revision this code knows."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    return ScriptDirectory.from_config(config).get_current_head()


def engine_for(url: str) -> Engine:
    """A plain engine for one-off work, psycopg 3 whatever the URL's spelling."""
    return create_engine(make_url(url).set(drivername="postgresql+psycopg"), pool_size=1, max_overflow=0)
