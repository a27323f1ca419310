"""Findings: where the record and a broker differ, and no report can bring them together; open until a look finds them gone."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from store.unit import Unit, text_array

FindingKey = tuple[str, str]  # kind, subject


@dataclass(frozen=True, slots=True)
class Finding:
    """One difference of one account. `ours` and `theirs` are for people: what each side says."""

    account_id: str
    kind: str
    subject: str
    ours: str
    theirs: str


@dataclass(frozen=True, slots=True)
class OpenFinding:
    finding: Finding
    broker: str
    found_at: datetime
    seen_at: datetime


_TELL = """
insert into findings (account_id, kind, subject, ours, theirs, found_at, seen_at)
select v.*, %s, %s from unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::text[])
    as v (account_id, kind, subject, ours, theirs)
on conflict (account_id, kind, subject) where gone_at is null do update set ours = excluded.ours,
    theirs = excluded.theirs, seen_at = excluded.seen_at
returning account_id, kind, subject, ours, theirs, found_at
"""


def tell(unit: Unit, findings: Sequence[Finding], at: datetime) -> list[Finding]:
    """Write them down, or what they are now; gives those that are new."""
    if not findings:
        return []
    rows = unit.rows(
        _TELL,
        (
            at,
            at,
            text_array([finding.account_id for finding in findings]),
            text_array([finding.kind for finding in findings]),
            text_array([finding.subject for finding in findings]),
            text_array([finding.ours for finding in findings]),
            text_array([finding.theirs for finding in findings]),
        ),
    )
    return [Finding(*row) for *row, found_at in rows if found_at == at]


def open_keys(unit: Unit, account_id: str) -> set[FindingKey]:
    rows = unit.rows("select kind, subject from findings where account_id = %s and gone_at is null", (account_id,))
    return {(kind, subject) for kind, subject in rows}


def gone(unit: Unit, account_id: str, keys: Collection[FindingKey], at: datetime) -> None:
    """Say that these are no more."""
    if not keys:
        return
    unit.run(
        "update findings f set gone_at = %s from unnest(%s::text[], %s::text[]) as v (kind, subject)"
        " where f.account_id = %s and f.kind = v.kind and f.subject = v.subject and f.gone_at is null",
        (at, text_array([kind for kind, _ in keys]), text_array([subject for _, subject in keys]), account_id),
    )


def still_open(unit: Unit, account_ids: Sequence[str]) -> list[OpenFinding]:
    """The open findings of these accounts, oldest first."""
    rows = unit.rows(
        "select f.account_id, f.kind, f.subject, coalesce(f.ours, ''), coalesce(f.theirs, ''), a.broker, f.found_at,"
        " f.seen_at from findings f join accounts a on a.id = f.account_id"
        " where f.account_id = any(%s) and f.gone_at is null order by f.found_at, f.id limit 1000",
        (list(account_ids),),
    )
    return [OpenFinding(Finding(*row), broker, found_at, seen_at) for *row, broker, found_at, seen_at in rows]
