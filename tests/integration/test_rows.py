"""Rows as parameters: PostgreSQL sees what was given, whether a column is the same in all rows or not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from store.json import dump, storable
from store.rows import Rows
from store.unit import Store, Unit

ROWS = Rows(
    id="uuid", count="bigint", name="text", kind="word", flag="boolean", price="numeric", at="timestamptz", detail="json"
)
READ = f"select v.*, v.detail::text from {ROWS.sql}"  # noqa: S608 - our own names
TEXT = st.text(st.characters(exclude_categories=()), max_size=8)
DETAILS = st.dictionaries(TEXT, st.one_of(TEXT, st.integers(-9, 9), st.none(), st.lists(TEXT, max_size=2)), max_size=2)
PRICES = st.decimals(-(10**6), 10**6, places=4, allow_nan=False)
# Few of each, so that a column is often the same in all rows.
COLUMNS = (
    st.uuids().map(str),
    st.none() | st.sampled_from([0, -1, 2**62]),
    st.none() | st.sampled_from(["", "NULL", "null", "{}", '"', "\\", "\x1e", "a,b"]) | TEXT,
    st.none() | st.sampled_from(["BUY", "SELL"]),
    st.none() | st.booleans(),
    st.none() | st.just(Decimal("1.50")) | PRICES,
    st.none() | st.sampled_from([datetime(2026, 11, 26, 5, tzinfo=UTC), datetime(2026, 11, 26, 5, 0, 0, 1, tzinfo=UTC)]),
    st.none() | st.just({}) | DETAILS,
)


@pytest.fixture(scope="module")
def unit(database_url: str) -> Iterator[Unit]:
    store = Store(database_url, name="rows", size=1)
    with store.unit() as unit:
        yield unit
    store.close()


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(*COLUMNS), max_size=5))
def test_every_value_arrives(unit: Unit, rows: list[tuple[Any, ...]]) -> None:
    *columns, details = ([row[at] for row in rows] for at in range(len(COLUMNS)))

    read = unit.rows(READ, ROWS.parameters(*columns, [None if of is None else dump(of) for of in details]))

    assert [row[:7] for row in read] == [
        (*row[:2], None if row[2] is None else storable(row[2]), *row[3:7]) for row in rows
    ]
    assert [row[8] and json.loads(row[8]) for row in read] == [
        None if of is None else json.loads(dump(of)) for of in details
    ]


def test_what_is_the_same_in_all_rows_is_sent_once() -> None:
    rows = Rows(id="int", state="word", detail="json", error="text")

    assert rows.parameters([1, 2], ["READY", "READY"], ['{"a":1}', '{"a":1}'], [None, None]) == [
        "READY",
        '{"a":1}',
        None,
        "{1,2}",
        "{}",
        "",
        "{}",
    ]
    assert rows.parameters([1, 2], ["READY", "DONE"], ["{}", None], ["x", None]) == [
        None,
        None,
        None,
        "{1,2}",
        "{READY,DONE}",
        "{}\x1e",
        '{"x",NULL}',
    ]
