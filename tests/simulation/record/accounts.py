"""Stands for `store/accounts.py`."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from domain.accounts import Account, Totals
from store.accounts import Delta, ToRead
from store.strays import TWIN

from .unit import Unit

_TOTALS = ("limit_paise", "blocked_paise", "exposure_paise", "open_orders", "second", "orders_this_second")


def directory(unit: Unit) -> list[Account]:
    unit.statement()
    rows = sorted(unit.scan("accounts"), key=lambda entry: (not entry[1]["account"].is_default, entry[0]))
    return [row["account"] for _, row in rows]


def lock(unit: Unit, account_ids: Sequence[str]) -> dict[str, Totals]:
    unit.statement()
    held = {}
    for account_id in sorted(account_ids):
        unit.lock("accounts", account_id)
        row = unit.get("accounts", account_id)
        held[account_id] = Totals(account_id=account_id, **{name: row[name] for name in _TOTALS})
    return held


def add(unit: Unit, deltas: Mapping[str, Delta], counted: Sequence[Totals] = ()) -> None:
    unit.statement()
    seconds = {total.account_id: total for total in counted}
    for account_id in sorted({*deltas, *seconds}):
        unit.lock("accounts", account_id)
        row, delta = unit.get("accounts", account_id), deltas.get(account_id) or Delta()
        assert row is not None
        more = {
            "blocked_paise": row["blocked_paise"] + delta.blocked_paise,
            "exposure_paise": row["exposure_paise"] + delta.exposure_paise,
            "open_orders": row["open_orders"] + delta.open_orders,
        }
        if (total := seconds.get(account_id)) is not None:
            more |= {"second": total.second, "orders_this_second": total.orders_this_second}
        unit.put("accounts", account_id, {**row, **more})


def to_read(unit: Unit, broker: str, now: datetime) -> list[ToRead]:
    unit.statement()
    searched = {row["search"].account_id for _, row in unit.scan("searches")}
    twins = any(row["closed_at"] is None and row["stray"].kind == TWIN for _, row in unit.scan("strays"))
    return [
        ToRead(id_, row["account"].session == "ALIVE", id_ in searched, twins, is_changing=False)
        for id_, row in sorted(unit.scan("accounts"))
        if row["account"].broker == broker and _tells(unit, id_, row["open_orders"], now)
    ]


def brokers_to_read(unit: Unit, now: datetime) -> list[str]:
    unit.statement()
    rows = unit.scan("accounts")
    return sorted({row["account"].broker for id_, row in rows if _tells(unit, id_, row["open_orders"], now)})


def watch(unit: Unit, until: Mapping[str, datetime]) -> None:
    unit.statement()
    for account_id, at in until.items():
        unit.lock("watches", account_id)
        unit.put("watches", account_id, max(at, unit.get("watches", account_id) or at))


def mark_sessions(unit: Unit, account_ids: Collection[str], session: str) -> int:
    unit.statement()
    changed = 0
    for account_id in sorted(account_ids):
        if unit.get("accounts", account_id)["account"].session == session:
            continue
        unit.lock("accounts", account_id)
        row = unit.get("accounts", account_id)
        assert row is not None
        if row["account"].session != session:
            changed += 1
            unit.put("accounts", account_id, {**row, "account": _with_session(row["account"], session)})
    return changed


def _with_session(account: Account, session: str) -> Account:
    return Account(
        id=account.id,
        user_id=account.user_id,
        broker=account.broker,
        calendar=account.calendar,
        is_default=account.is_default,
        session=session,
    )


def _tells(unit: Unit, account_id: str, open_orders: int, now: datetime) -> bool:
    until = unit.get("watches", account_id)
    return open_orders > 0 or (until is not None and until > now)
