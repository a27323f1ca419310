"""PostgreSQL: reachable, at the newest schema, with a role that can't harm the record, and a clock like ours."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from ops.checkup.finding import Finding, Findings, fail, ok, warn, words_of

VERSION_MIN = 15
SKEW_WARN_S, SKEW_FAIL_S = 0.25, 2.0
MIGRATE = "coordinator migrate"

Ask = Callable[[str], Sequence[tuple[Any, ...]]]

CAN_HARM = """
select privilege from (values
    ('is a superuser', (select rolsuper from pg_roles where rolname = current_user)),
    ('may make roles', (select rolcreaterole from pg_roles where rolname = current_user)),
    ('may make tables', has_schema_privilege('public', 'CREATE')),
    ('owns tables', exists (select 1 from pg_class join pg_roles on pg_roles.oid = relowner
                            where rolname = current_user and relkind in ('r', 'p'))),
    ('may change events', has_table_privilege('order_events', 'UPDATE') or has_table_privilege('order_events', 'DELETE')),
    ('may change the audit log', has_table_privilege('audit_log', 'UPDATE') or has_table_privilege('audit_log', 'DELETE'))
) as rights (privilege, has_it) where has_it
"""
WORK = """
select state, count(*), coalesce(extract(epoch from now() - min(due_at)), 0)::float from commands
where state in ('STUCK', 'UNKNOWN') or (state = 'READY' and due_at < now() - interval '5 seconds') group by state
"""
DIFFERING = """
select 'findings', count(*) from findings where gone_at is null
union all select 'strays', count(*) from strays where closed_at is null
"""
NEXT_MONTH = (
    "select to_regclass('order_events' || to_char(now() at time zone 'UTC' + interval '1 month', '_YYYYMM'))::text"
)


def check_database(url: str) -> Findings:
    """Every check that one connection of the app's role can answer."""
    from sqlalchemy import text

    from store.migrate import engine_for, newest, revision

    engine = engine_for(url)
    try:
        with engine.connect() as connection:

            def ask(sql: str) -> Sequence[tuple[Any, ...]]:
                return [tuple(row) for row in connection.execute(text(sql))]

            yield check_version(ask)
            yield check_clock(*clock_skew(ask))
            schema = check_schema(revision(connection), newest())
            yield schema
            if schema.level == "ok":
                yield check_role(str(ask("select current_user")[0][0]), [str(row[0]) for row in ask(CAN_HARM)])
                yield check_partitions(ask(NEXT_MONTH)[0][0])
                yield from check_work({str(state): (int(count), float(age)) for state, count, age in ask(WORK)})
                yield check_differences({str(noun): int(count) for noun, count in ask(DIFFERING)})
    except Exception as error:  # noqa: BLE001 - whatever goes wrong is the finding
        yield fail("database", f"PostgreSQL can't be asked: {words_of(error)}", "Start it, or mend DATABASE_URL")
    finally:
        engine.dispose()


def brokers_in_use(url: str) -> list[str]:
    """The brokers that accounts are at; none when the database can't tell."""
    from sqlalchemy import text
    from sqlalchemy.exc import SQLAlchemyError

    from store.migrate import engine_for

    engine = engine_for(url)
    try:
        with engine.connect() as connection:
            return [str(row[0]) for row in connection.execute(text("select distinct broker from accounts order by 1"))]
    except SQLAlchemyError:
        return []
    finally:
        engine.dispose()


def check_version(ask: Ask) -> Finding:
    started = time.perf_counter()
    number = int(ask("select current_setting('server_version_num')::int")[0][0])
    told = f"PostgreSQL {number // 10_000}.{number % 10_000} answers in {(time.perf_counter() - started) * 1000:.1f} ms"
    if number // 10_000 < VERSION_MIN:
        return fail("database", told, f"PostgreSQL {VERSION_MIN} or later is needed")
    return ok("database", told)


def clock_skew(ask: Ask) -> tuple[float, float]:
    """How far the database's clock is ahead of ours, and how exactly that is known, in seconds."""
    best = (0.0, float("inf"))
    for _ in range(3):
        before = time.time()
        theirs: datetime = ask("select clock_timestamp()")[0][0]
        after = time.time()
        if (after - before) / 2 < best[1]:
            best = (theirs.timestamp() - (before + after) / 2, (after - before) / 2)
    return best


def check_clock(skew_s: float, exactness_s: float) -> Finding:
    told = f"the database's clock is {skew_s * 1000:+.0f} ms from ours (±{exactness_s * 1000:.0f})"
    beyond = abs(skew_s) - exactness_s
    if beyond > SKEW_FAIL_S:
        return fail("clock", told, "Keep both machines on time (chrony or systemd-timesyncd): deadlines depend on it")
    if beyond > SKEW_WARN_S:
        return warn("clock", told, "Keep both machines on time (chrony or systemd-timesyncd)")
    return ok("clock", told)


def check_schema(found: str | None, wanted: str | None) -> Finding:
    if found == wanted:
        return ok("schema", f"revision {found}, the newest")
    told = f"revision {found}, this code wants {wanted}" if found else "the database is empty"
    return fail("schema", told, f"{MIGRATE} (as the owner: OWNER_DATABASE_URL)")


def check_role(role: str, can_harm: Sequence[str]) -> Finding:
    if not can_harm:
        return ok("role", f"{role} can't change tables, events or the audit log")
    mend = "Let the processes use a role of their own in DATABASE_URL, granted by the migration, not the owner"
    return fail("role", f"{role} {', '.join(can_harm)}", mend)


def check_partitions(next_month: str | None) -> Finding:
    if next_month:
        return ok("partitions", f"next month's are there ({next_month})")
    return warn("partitions", "next month's are missing", f"{MIGRATE} makes them; the clock process should have")


def check_differences(by_noun: dict[str, int]) -> Finding:
    """Where the record and the brokers differ: open findings of the reconciler, and strays in the brokers' books."""
    told = ", ".join(f"{count} {noun}" for noun, count in by_noun.items() if count)
    if not told:
        return ok("brokers", "the record and the brokers agree, as far as they were compared")
    return warn("brokers", f"{told}: the record and the brokers differ", "coordinator reconcile shows them")


def check_work(by_state: dict[str, tuple[int, float]]) -> Findings:
    """Stuck, unknown and overdue work; `by_state` gives how many, and the age of the oldest in seconds."""
    if not by_state:
        yield ok("work", "nothing is stuck, unknown or overdue")
    if "STUCK" in by_state:
        yield warn("work", f"{by_state['STUCK'][0]} stuck", "coordinator dlq list")
    if "UNKNOWN" in by_state:
        count, age_s = by_state["UNKNOWN"]
        yield warn("work", f"{count} unknown, the oldest for {age_s:.0f} s", "trader orders --state UNKNOWN")
    if "READY" in by_state:
        count, age_s = by_state["READY"]
        yield warn("work", f"{count} due for more than 5 s, the oldest for {age_s:.0f} s", "See the queues' consumers")
