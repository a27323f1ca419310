"""Reports: the inbox of what brokers tell us, each fact once."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from domain.events import Source
from store.json import dump
from store.unit import Unit, array, text_array


@dataclass(frozen=True, slots=True)
class Report:
    """What a broker said of one order: the body of its book row, or of a late answer."""

    order_id: str
    source: Source
    body: dict[str, Any]

    @property
    def digest(self) -> bytes:
        """The same fact told twice has the same digest, whoever told it."""
        return hashlib.sha256(dump(self.body).encode()).digest()


def insert(unit: Unit, reports: Sequence[Report], at: datetime) -> int:
    """Store those that are new; gives how many were."""
    if not reports:
        return 0
    reports = sorted(reports, key=lambda report: report.order_id)
    return unit.run(
        "insert into reports (order_id, digest, source, body, received_at, due_at)"
        " select order_id, decode(digest, 'hex'), source, body, %s, %s"
        " from unnest(%s::uuid[], %s::text[], %s::text[], %s::json[]) as v (order_id, digest, source, body)"
        " on conflict do nothing",
        (
            at,
            at,
            array([report.order_id for report in reports]),
            array([report.digest.hex() for report in reports]),
            array([report.source for report in reports]),
            text_array([dump(report.body) for report in reports]),
        ),
    )


def claim(unit: Unit, now: datetime, limit: int) -> list[tuple[str, bytes, str, dict[str, Any]]]:
    """Lock due reports that nobody has applied yet, oldest first: (order_id, digest, source, body)."""
    rows = unit.rows(
        "select order_id, digest, source, body from reports where applied_at is null and due_at <= %s order by due_at"
        " limit %s for update skip locked",
        (now, limit),
    )
    return [(order_id, bytes(digest), source, body) for order_id, digest, source, body in rows]


def waiting_of(unit: Unit, order_ids: Sequence[str]) -> set[str]:
    """Those of the orders of which something was told that nobody has applied yet."""
    rows = unit.rows(
        "select distinct order_id from reports where order_id = any(%s::uuid[]) and applied_at is null",
        (array(order_ids),),
    )
    return {row[0] for row in rows}


def newest_reads(unit: Unit, order_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The newest that a dated read has shown of each order and that is applied: the report's body, by order id."""
    rows = unit.rows(
        "select distinct on (order_id) order_id, body from reports where order_id = any(%s::uuid[])"
        " and applied_at is not null and body -> 'read' is not null order by order_id, body -> 'read' ->> 1 desc",
        (array(order_ids),),
    )
    return dict(rows)


def close(unit: Unit, keys: Sequence[tuple[str, bytes]], at: datetime) -> None:
    unit.run(
        "update reports r set applied_at = %s from unnest(%s::uuid[], %s::text[]) as v (order_id, digest)"
        " where r.order_id = v.order_id and r.digest = decode(v.digest, 'hex')",
        (at, array([key[0] for key in keys]), array([key[1].hex() for key in keys])),
    )


def set_aside(unit: Unit, order_id: str, digest: bytes, now: datetime) -> None:
    """Let a report that could not be applied wait: as long as it is old, a second at least and a minute at most."""
    unit.run(
        "update reports set due_at = %s::timestamptz + least(greatest(%s::timestamptz - received_at, interval '1 second'), interval '1 minute')"
        " where order_id = %s and digest = %s and applied_at is null",
        (now, now, order_id, digest),
    )


def any_due(unit: Unit, *, older_than_s: float) -> bool:
    """Whether a report has waited longer than that to be applied."""
    rows = unit.rows(
        "select 1 from reports where applied_at is null and due_at < now() - make_interval(secs => %s) limit 1",
        (older_than_s,),
    )
    return bool(rows)
