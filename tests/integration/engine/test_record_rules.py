"""What the database itself enforces: roles, append-only tables, partitions; and migrations that may be run again."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import count

import psycopg
import pytest
from alembic import command
from alembic.config import Config
from house import House, intake_engine, utc_now
from psycopg import sql
from shared_services import SharedServices
from sqlalchemy import Engine, inspect

from domain.ids import new_id
from domain.settings import Settings
from ops.services.postgres import create_database
from store import audit, settings
from store.migrate import MIGRATIONS, engine_for, newest, revision, upgrade
from store.tables import metadata
from store.unit import text_array

NUMBERS = count(1)


@pytest.fixture
def empty_database(services: SharedServices, superuser: psycopg.Connection) -> Iterator[str]:
    """The name of a database without a table."""
    name = f"empty_{os.getpid()}_{next(NUMBERS)}"
    create_database(superuser, name)
    yield name
    superuser.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def test_the_app_can_not_make_or_change_a_table(house: House) -> None:
    for statement in (
        "create table mine (id int)",
        "alter table orders add column mine int",
        "drop table orders",
        "create index mine on orders (tag)",
        "create temporary table mine (id int)",
    ):
        with (
            pytest.raises(psycopg.errors.InsufficientPrivilege),
            psycopg.connect(house.database_url, autocommit=True) as app,
        ):
            app.execute(statement)


@pytest.mark.parametrize("role", ["app", "owner"])
@pytest.mark.parametrize("table", ["order_events", "audit_log"])
@pytest.mark.parametrize("verb", ["update {} set detail = '{{}}'", "delete from {}", "truncate {}"])
def test_nobody_changes_what_is_append_only(house: House, role: str, table: str, verb: str) -> None:
    house.accept()
    with house.store.unit() as unit:
        audit.write(unit, utc_now(), "me", "test", "nothing", {})
    partition = f"{table}_{utc_now():%Y%m}"
    url = house.database_url if role == "app" else house.owner_database_url

    for name in (table, partition):
        with (
            pytest.raises(psycopg.errors.InsufficientPrivilege),
            psycopg.connect(url, autocommit=True) as connection,
        ):
            connection.execute(verb.format(name))  # type: ignore[arg-type]

    assert house.rows("select (select count(*) from order_events), (select count(*) from audit_log)") == [(1, 1)]


def test_a_command_is_live_while_it_is_ready_or_being_sent(house: House) -> None:
    house.accept()

    with pytest.raises(psycopg.errors.CheckViolation):
        house.run("update commands set state = 'DONE'")


def test_migrating_again_changes_nothing(house: House) -> None:
    before = house.rows("select count(*) from pg_class")

    assert upgrade(house.owner_database_url) == (newest(), newest())
    assert house.rows("select count(*) from pg_class") == before


def test_two_starts_side_by_side_migrate_once(services: SharedServices, empty_database: str) -> None:
    url = services.database_url("owner", empty_database)
    results: list[tuple[str | None, str | None]] = []
    threads = [threading.Thread(target=lambda: results.append(upgrade(url))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(results, key=str) == sorted([(None, newest()), (newest(), newest()), (newest(), newest())], key=str)


def test_a_migration_that_fails_leaves_no_lock_behind(services: SharedServices, empty_database: str) -> None:
    url = services.database_url("owner", empty_database)
    with pytest.raises(Exception, match="nobody_of_that_name"):
        upgrade(url, app_role="nobody_of_that_name")

    with psycopg.connect(url) as connection:
        locks = connection.execute(
            "select count(*) from pg_locks where locktype = 'advisory'"
            " and database = (select oid from pg_database where datname = current_database())"
        ).fetchone()  # of this database: the other worker's migrations are not meant
        assert locks == (0,)
        assert connection.execute("select to_regclass('orders')").fetchone() == (None,)


def test_the_acts_of_before_hold_their_keys_from_the_migration_on(services: SharedServices, empty_database: str) -> None:
    url = services.database_url("owner", empty_database)
    _upgrade_to(url, "0013")
    user, other, place, change = new_id(), new_id(), "a-key-of-a-place-0", "a-key-of-a-change-"
    with psycopg.connect(url) as connection:
        for owner, key in ((user, place), (user, change), (other, change)):
            connection.execute("insert into acts (user_id, idempotency_key, fingerprint, at) values (%s, %s, 'f', now())", (owner, key))
        connection.execute(
            "insert into intents (id, user_id, key_id, kind, idempotency_key, fingerprint, order_ids, accepted_at, window_until)"
            " values (%s, %s, %s, 'PLACE', %s, 'f', '{}', now(), now())",
            (new_id(), user, user, place),
        )  # as a square-off has both

    upgrade(url)

    with psycopg.connect(url) as connection:
        held = connection.execute("select user_id::text, idempotency_key, kind from intents order by kind, user_id").fetchall()
    assert set(held) == {(user, place, "PLACE"), (user, change, "ACT"), (other, change, "ACT")}


def _upgrade_to(url: str, target: str) -> None:
    engine, config = engine_for(url), Config()
    try:
        with engine.connect() as connection:
            config.set_main_option("script_location", str(MIGRATIONS))
            config.attributes.update(connection=connection, app_role="app")
            command.upgrade(config, target)
            connection.commit()
    finally:
        engine.dispose()


@pytest.mark.parametrize("zone", ["Asia/Kolkata", "America/New_York", "Pacific/Kiritimati"])
def test_partitions_are_months_of_utc_wherever_the_server_stands(
    services: SharedServices, superuser: psycopg.Connection, empty_database: str, zone: str
) -> None:
    alter = sql.SQL("ALTER DATABASE {} SET timezone = {}")
    superuser.execute(alter.format(sql.Identifier(empty_database), sql.Literal(zone)))
    upgrade(services.database_url("owner", empty_database))

    with psycopg.connect(services.database_url("app", empty_database)) as app:
        rows = app.execute(
            "select relname, pg_get_expr(relpartbound, oid) from pg_class where relispartition"
            " and relname like 'order_events_2%' and relkind = 'r' order by relname"
        ).fetchall()
    assert len(rows) == 5
    for name, bound in rows:
        first = datetime(int(name[-6:-2]), int(name[-2:]), 1, tzinfo=UTC)
        stamp = f"{int(first.timestamp() * 1000):012x}"
        assert f"FROM ('{stamp[:8]}-{stamp[8:]}-0000-0000-000000000000')" in bound


def test_an_id_made_now_has_its_partition_for_months_to_come(house: House) -> None:
    for days in (0, 28, 62):
        moment = utc_now() + timedelta(days=days)
        stamp = f"{int(moment.timestamp() * 1000):012x}"
        id_ = f"{stamp[:8]}-{stamp[8:]}-7{new_id()[15:]}"
        house.run(
            "insert into order_events (order_id, seq, event_type, new_state, source, at, detail)"
            " values (%s, 0, 'RECEIVED', 'RECEIVED', 'CLIENT', now(), '{}')",
            id_,
        )


def test_the_tables_in_code_are_those_of_the_migrations(house: House) -> None:
    engine: Engine = engine_for(house.owner_database_url)
    try:
        with engine.connect() as connection:
            assert revision(connection) == newest()
        inspector = inspect(engine)
        for table in metadata.sorted_tables:
            there = {column["name"]: column for column in inspector.get_columns(table.name)}
            assert there.keys() == {column.name for column in table.columns}, table.name
            keys = inspector.get_pk_constraint(table.name)["constrained_columns"]
            assert keys == [column.name for column in table.primary_key], table.name
            for column in table.columns:
                found = there[column.name]
                assert found["nullable"] == column.nullable, f"{table.name}.{column.name}"
                assert type(found["type"]).__name__ in KINDS[type(column.type).__name__], f"{table.name}.{column.name}"
    finally:
        engine.dispose()


KINDS = {
    "Uuid": {"UUID"},
    "Text": {"TEXT"},
    "Integer": {"INTEGER"},
    "BigInteger": {"BIGINT"},
    "Boolean": {"BOOLEAN"},
    "Numeric": {"NUMERIC"},
    "LargeBinary": {"BYTEA"},
    "TIMESTAMP": {"TIMESTAMP"},
    "JSONB": {"JSONB", "JSON"},
    "JSON": {"JSON"},
    "ARRAY": {"ARRAY"},
}


def test_text_of_any_kind_comes_back_from_an_array(house: House) -> None:
    texts = ['a"b\\c', "{},", "NULL", "", "₹ é\n\t", "it's", None]

    assert house.rows("select unnest(%s::text[])", text_array(texts)) == [(text,) for text in texts]


def test_a_setting_that_only_a_newer_version_knows_is_left_alone(house: House) -> None:
    with house.store.unit() as unit:
        settings.change(unit, "max_unsent_s", 60, by="me")
    house.run("insert into settings (name, value, updated_by) values ('of_tomorrow', '1', 'another version')")

    with house.store.unit() as unit:
        assert settings.read(unit) == Settings(max_unsent_s=60)
        assert settings.change(unit, "max_unsent_s", 90, by="me").max_unsent_s == 90


def test_a_reader_that_holds_an_old_snapshot_does_not_slow_the_claims(house: House) -> None:
    """Dead entries can't be cleaned from the index then: a claim from its old end would walk over all of them."""
    engine, dispatcher = intake_engine(house.desk()), house.dispatcher(house.desk())
    with psycopg.connect(house.database_url) as reader:
        reader.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        reader.execute("select count(*) from commands")
        early = [quickest(lambda: engine.run("validate")), quickest(dispatcher.pump)]
        churn(house, "validate", 50_000)
        churn(house, dispatcher.stage, 50_000)
        engine.run("validate")
        late = [quickest(lambda: engine.run("validate")), quickest(dispatcher.pump)]

    assert [after < 4 * before + 0.004 for before, after in zip(early, late, strict=True)] == [True, True], (
        early,
        late,
    )


def churn(house: House, stage: str, orders: int) -> None:
    """So many commands become ready at a stage and are done a moment later."""
    ready = (
        "insert into commands (order_id, seq, kind, stage, state, due_at)"
        " select gen_random_uuid(), 0, 'PLACE', %s, 'READY', now() from generate_series(1, %s)"
    )
    done = "update commands set state = 'DONE', live = false, done_at = now() where live"
    for statement, parameters in ((ready, (stage, orders)), (done, ())):
        with house.store.unit() as unit:
            unit.run("set local statement_timeout = 60000")
            unit.run("set local enable_seqscan = on")
            unit.run(statement, parameters)


def quickest(look: Callable[[], object]) -> float:
    """Seconds of the quickest of many looks: the machine may be busy with other things."""
    times = []
    for _ in range(15):
        started = time.perf_counter()
        look()
        times.append(time.perf_counter() - started)
    return min(times)
