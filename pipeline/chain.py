"""Who comes after whom: the only place that knows."""

from __future__ import annotations

from domain.commands import CommandKind

INTAKE = ("validate", "risk", "margin", "route")
OUTCOME = ("persist", "notify")
FIRST = {CommandKind.PLACE: "validate"}
NOT_TAKEN = "validate"  # the way back: what a broker provably hasn't taken, and may go to another one

QUEUE_PREFIX = "oc.v2."  # the version moves when a queue's arguments do: they are fixed at its creation


def dispatch_stage(broker: str) -> str:
    return f"dispatch.{broker}"


def reports_stage(broker: str) -> str:
    """Not a stage of orders: reads the books of one broker's accounts."""
    return f"reports.{broker}"


def reconcile_stage(broker: str) -> str:
    """Not a stage of orders either: compares the record to one broker."""
    return f"reconcile.{broker}"


def queue_of(stage: str) -> str:
    return QUEUE_PREFIX + stage


def all_stages(brokers: tuple[str, ...]) -> tuple[str, ...]:
    return (*INTAKE, *(dispatch_stage(broker) for broker in brokers), *OUTCOME)
