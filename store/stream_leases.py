"""Which listening process holds which account's order stream: a row with an end, renewed as long as its holder lives.

A lease spares a broker a second connection; it guards nothing else. Told twice, an update is one report.
"""

from __future__ import annotations

from collections.abc import Sequence

from store.unit import Unit

_TURN = 7_301_956  # advisory lock: one process at a time takes what is free, and sees what the last one took


def be_present(unit: Unit, holder: str, lease_s: float) -> int:
    """Say that this process listens, and let others wait their turn until the unit ends; gives how many listen."""
    unit.rows("select pg_advisory_xact_lock(%s)", (_TURN,))
    unit.run(
        "insert into listeners (name, until) values (%s, now() + make_interval(secs => %s))"
        " on conflict (name) do update set until = excluded.until",
        (holder, lease_s),
    )
    unit.run("delete from listeners where until < now() - interval '1 hour'")
    return int(unit.rows("select count(*) from listeners where until > now()")[0][0])


def count_wanted(unit: Unit, brokers: Sequence[str]) -> int:
    """Accounts whose streams are to be held: those of these brokers with a live session."""
    counted = unit.rows("select count(*) from accounts where session = 'ALIVE' and broker = any(%s)", (list(brokers),))
    return int(counted[0][0])


def renew(unit: Unit, holder: str, account_ids: Sequence[str], lease_s: float) -> list[str]:
    """Keep these for longer; gives those that are still this holder's, and still wanted."""
    rows = unit.rows(
        "update stream_leases l set until = now() + make_interval(secs => %s) from accounts a"
        " where l.account_id = any(%s) and l.holder = %s and a.id = l.account_id and a.session = 'ALIVE'"
        " returning l.account_id",
        (lease_s, list(account_ids), holder),
    )
    return sorted(row[0] for row in rows)


def take(unit: Unit, holder: str, brokers: Sequence[str], limit: int, lease_s: float) -> list[str]:
    """Take at most so many accounts that nobody holds."""
    rows = unit.rows(
        "insert into stream_leases (account_id, holder, until)"
        " select a.id, %s, now() + make_interval(secs => %s) from accounts a"
        " left join stream_leases l on l.account_id = a.id"
        " where a.session = 'ALIVE' and a.broker = any(%s) and (l.account_id is null or l.until < now())"
        " order by a.id limit %s"
        " on conflict (account_id) do update set holder = excluded.holder, until = excluded.until"
        " where stream_leases.until < now() returning account_id",
        (holder, lease_s, list(brokers), limit),
    )
    return sorted(row[0] for row in rows)


def give_back(unit: Unit, holder: str, account_ids: Sequence[str]) -> None:
    unit.run("delete from stream_leases where holder = %s and account_id = any(%s)", (holder, list(account_ids)))


def leave(unit: Unit, holder: str) -> None:
    """Give everything back: this process listens no more."""
    unit.run("delete from stream_leases where holder = %s", (holder,))
    unit.run("delete from listeners where name = %s", (holder,))
