"""Weighing: what orders hold of their accounts with the terms they have, by the same estimate that placements are judged by."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

from domain.accounts import Totals
from domain.orders import Order
from pipeline import steps
from pipeline.desk import Desk
from pipeline.intake_group import Facts
from pipeline.stages import modify
from pipeline.terms import Weigh


def facts_of(desk: Desk, orders: Iterable[Order], totals: Mapping[str, Totals], at: datetime) -> modify.Facts:
    """What modifies of these orders are judged by. `totals` are those of their accounts, locked."""
    directory = desk.directory()
    choices = {
        order.id: directory.by_id[order.account_id]
        for order in orders
        if order.account_id is not None and order.account_id in directory.by_id
    }
    capabilities = {name: adapter.capabilities for name, adapter in desk.adapters.items()}
    facts = Facts(at, desk.settings(), desk.instruments(), capabilities, choices, totals, {})
    return modify.Facts(
        validate=steps.validate_facts(facts), risk=steps.risk_facts(facts), margin=steps.margin_facts(facts)
    )


def weigher(desk: Desk, at: datetime) -> Weigh:
    """Says of one order what it holds, as (blocked, exposure) in paise; what it holds already, where its instrument is gone."""
    facts: modify.Facts | None = None

    def weigh(order: Order) -> tuple[int, int]:
        nonlocal facts
        if facts is None:
            facts = facts_of(desk, (), {}, at)
        instrument = facts.validate.instruments.get(order.instrument)
        if instrument is None:
            return order.blocked_paise, order.exposure_paise
        found = modify.holding(order, instrument, facts)
        return found.blocked, found.exposure

    return weigh
