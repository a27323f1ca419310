"""Fills the record with finished orders, as if it had run for weeks: copies of one that really went through."""

from __future__ import annotations

import time

from psycopg import Connection, sql
from psycopg.rows import TupleRow

from ops.bench.measure import CouldNotMeasure

CHUNK = 50_000

# Which columns of a copy differ from its model, and what they have: `number`, `moment`, `new_id` and `new_intent` are
# the copy's. The model rests at the broker; its copies were filled.
TAG = "'ST' || lpad(copies.number::text, 17, '0')"
CHANGES: dict[str, dict[str, str]] = {
    "intents": {
        "id": "copies.new_intent",
        "idempotency_key": "'stored-' || copies.new_intent",
        "order_ids": "array[copies.new_id]",
        "accepted_at": "copies.moment",
        "window_until": "copies.moment + interval '5 minutes'",
    },
    "orders": {
        "id": "copies.new_id",
        "intent_id": "copies.new_intent",
        "broker_tag": TAG,
        "broker_order_id": "'STORED-' || copies.number",
        "state": "'FILLED'",
        "filled_quantity": "quantity",
        "average_price": "price",
        "blocked_paise": "0",
        "exposure_paise": "0",
        "accepted_at": "copies.moment",
        "send_before": "copies.moment + interval '2 minutes'",
        "updated_at": "copies.moment",
    },
    "commands": {"order_id": "copies.new_id", "due_at": "copies.moment", "done_at": "copies.moment"},
    "order_events": {"order_id": "copies.new_id", "at": "copies.moment"},
    "attempts": {
        "order_id": "copies.new_id",
        "call_id": "copies.new_id",
        "tag": TAG,
        "started_at": "copies.moment",
        "lease_until": "copies.moment",
        "ended_at": "copies.moment",
    },
}
KEY = {"intents": "id = %(intent)s", "orders": "id = %(order)s"}
MODEL = """
select o.id, o.intent_id from orders o join commands c on c.order_id = o.id
where c.state = 'DONE' and exists (select from attempts a where a.order_id = o.id)
order by o.id desc limit 1
"""
COLUMNS = """
select column_name from information_schema.columns
where table_schema = 'public' and table_name = %s and is_generated = 'NEVER' order by ordinal_position
"""
# An id of version 7, as `order_events` is partitioned by: its time in milliseconds, then the copy's number. The copies
# are spread over the last weeks.
COPIES = """
create temporary table copies as
select number, moment, (prefix || '-8000-' || lpad(to_hex(number), 12, '0'))::uuid as new_id,
       (prefix || '-9000-' || lpad(to_hex(number), 12, '0'))::uuid as new_intent
from (select number, moment, substr(stamp, 1, 8) || '-' || substr(stamp, 9, 4) || '-7000' as prefix
      from (select number, moment, lpad(to_hex((extract(epoch from moment) * 1000)::bigint), 12, '0') as stamp
            from (select number, now() - interval '1 hour' - (number::float8 / %(total)s) * interval '20 days' as moment
                  from generate_series(%(first)s::int, %(last)s::int) as number) as numbered) as stamped) as prefixed
"""


def store_orders(connection: Connection[TupleRow], total: int) -> float:
    """Store so many finished orders with their intents, commands, events and attempts; how many seconds that took.

    Raises:
        CouldNotMeasure: no order has gone through yet that could be their model.
    """
    began = time.monotonic()
    model = connection.execute(MODEL).fetchone()
    if model is None:
        raise CouldNotMeasure("no finished order to copy")
    parameters = {"order": model[0], "intent": model[1]}
    copies = {table: _copy(connection, table, changes) for table, changes in CHANGES.items()}
    for first in range(0, total, CHUNK):
        last = min(first + CHUNK, total) - 1
        with connection.transaction():
            connection.execute(COPIES, {"first": first, "last": last, "total": total})
            for query in copies.values():
                connection.execute(query, parameters)
            connection.execute("drop table copies")
    connection.execute("vacuum analyze")
    return time.monotonic() - began


def _copy(connection: Connection[TupleRow], table: str, changes: dict[str, str]) -> sql.Composed:
    """An insert of one row, or an event each, per copy: the model's columns, save those that differ."""
    columns = [row[0] for row in connection.execute(COLUMNS, [table])]
    unknown = changes.keys() - set(columns)
    if unknown:
        raise CouldNotMeasure(f"{table} has no column {', '.join(sorted(unknown))}: mend ops/bench/stored.py")
    values = [sql.SQL(changes[name]) if name in changes else sql.Identifier("model", name) for name in columns]
    return sql.SQL("insert into {table} ({columns}) select {values} from copies, {table} as model where {key}").format(
        table=sql.Identifier(table),
        columns=sql.SQL(", ").join(map(sql.Identifier, columns)),
        values=sql.SQL(", ").join(values),
        key=sql.SQL("model." + KEY.get(table, "order_id = %(order)s")),
    )
