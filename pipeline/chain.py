"""Who comes after whom: the only place that knows."""

from __future__ import annotations

from domain.commands import CommandKind

INTAKE = ("validate", "risk", "margin", "route")
OUTCOME = ("persist", "notify")
CHANGES = ("cancel", "modify")
GROUPS = "groups"  # decides on lines that wait for others of their intent
FIRST = {CommandKind.PLACE: "validate", CommandKind.CANCEL: "cancel", CommandKind.MODIFY: "modify"}
NOT_TAKEN = "validate"  # the way back: what a broker provably hasn't taken, and may go to another one

QUEUE_PREFIX = "oc.v2."  # the version moves when a queue's arguments do: they are fixed at its creation


def dispatch_stage(broker: str) -> str:
    return f"dispatch.{broker}"


def change_stage(broker: str, kind: CommandKind) -> str:
    """Where the calls for modifies or cancels at one broker are made; each has a queue of its own, that none waits for a place."""
    return f"dispatch.{broker}.{kind.lower()}"


def soft_cancel_stage(broker: str) -> str:
    """Where soft cancels are made: apart, so that they take neither the room nor the calls of those that are waited for."""
    return f"dispatch.{broker}.soft.cancel"


def is_change_stage(stage: str) -> bool:
    """Whether the stage works on modifies or cancels, and not on placements."""
    return stage in CHANGES or stage.endswith((".cancel", ".modify"))


def reports_stage(broker: str) -> str:
    """Not a stage of orders: reads the books of one broker's accounts."""
    return f"reports.{broker}"


def reconcile_stage(broker: str) -> str:
    """Not a stage of orders either: compares the record to one broker."""
    return f"reconcile.{broker}"


def queue_of(stage: str) -> str:
    return QUEUE_PREFIX + stage


def all_stages(brokers: tuple[str, ...]) -> tuple[str, ...]:
    calls = (
        stage
        for broker in brokers
        for stage in (
            dispatch_stage(broker),
            change_stage(broker, CommandKind.CANCEL),
            soft_cancel_stage(broker),
            change_stage(broker, CommandKind.MODIFY),
        )
    )
    return (*INTAKE, GROUPS, *CHANGES, *calls, *OUTCOME)
