"""store/tables.py says what the migrations make, column by column."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine, Inspector, UniqueConstraint, inspect
from sqlalchemy.dialects import postgresql

from store.migrate import engine_for
from store.tables import metadata

DIALECT = postgresql.dialect()


@pytest.fixture(scope="module")
def engine(owner_database_url: str):
    engine = engine_for(owner_database_url)
    yield engine
    engine.dispose()


@pytest.fixture
def found(engine: Engine) -> Inspector:
    return inspect(engine)


def test_there_are_no_other_tables(engine: Engine):
    with engine.connect() as connection:
        names = connection.exec_driver_sql(
            "select relname from pg_class where relkind in ('r', 'p') and not relispartition"
            " and relnamespace = 'public'::regnamespace"
        ).scalars()
        assert set(names) - {"alembic_version"} == set(metadata.tables)


@pytest.mark.parametrize("name", sorted(metadata.tables))
def test_a_tables_columns_are_those_of_the_database(found: Inspector, name: str):
    ours = {
        column.name: (column.type.compile(DIALECT), bool(column.nullable)) for column in metadata.tables[name].columns
    }
    theirs = {
        column["name"]: (column["type"].compile(DIALECT), column["nullable"]) for column in found.get_columns(name)
    }
    assert ours == theirs
    assert list(ours) == list(theirs)


@pytest.mark.parametrize("name", sorted(metadata.tables))
def test_a_tables_keys_are_those_of_the_database(found: Inspector, name: str):
    table = metadata.tables[name]
    assert [column.name for column in table.primary_key] == found.get_pk_constraint(name)["constrained_columns"]
    ours = {tuple(c.name for c in key.columns) for key in table.constraints if isinstance(key, UniqueConstraint)}
    assert ours == {tuple(key["column_names"]) for key in found.get_unique_constraints(name)}
