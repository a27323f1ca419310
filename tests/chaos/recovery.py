"""How long orders took to be confirmed after a fault that found them on their way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from domain.lifecycle import AT_BROKER, TERMINAL

if TYPE_CHECKING:
    from tests.chaos.campaign import Done
    from tests.chaos.invariants import Scene

CONFIRMED = frozenset(AT_BROKER | TERMINAL)
TAKEN_WITHIN = timedelta(seconds=5)  # from the fault: the call that was under way when it struck


@dataclass(frozen=True, slots=True)
class Recovery:
    """One order that a fault found unconfirmed: seconds from the fault until it was confirmed, or None: never."""

    order_id: str
    target: str
    kind: str
    taken: bool  # whether a broker had it by then, or had it from the call that was under way
    proven: bool  # whether its absence had to be proven on the way
    seconds: float | None
    single: bool  # whether no other fault came until then


def recoveries(scene: Scene, faults: Sequence[Done]) -> list[Recovery]:
    """One for each fault and each order on its way at that moment."""
    taken_at = {row["tag"]: datetime.fromisoformat(row["accepted_at"]) for row in scene.book if row.get("accepted_at")}
    found = []
    for order_id, order in scene.orders.items():
        if order["slices"]:
            continue
        events = scene.events.get(order_id, [])
        accepted, confirmed = order["accepted_at"], _confirmed_at(events)
        for place, fault in enumerate(faults):
            if fault.at < accepted or (confirmed is not None and confirmed <= fault.at):
                continue
            taken = taken_at.get(order["broker_tag"])
            later = faults[place + 1].at if place + 1 < len(faults) else None
            proven = any(
                event["event_type"] == "PROVEN_ABSENT" and event["at"] > fault.at for event in events
            )
            found.append(
                Recovery(
                    order_id,
                    fault.fault.target,
                    str(fault.fault.kind),
                    taken is not None and taken <= fault.at + TAKEN_WITHIN,
                    proven,
                    None if confirmed is None else (confirmed - fault.at).total_seconds(),
                    later is None or (confirmed is not None and confirmed <= later),
                )
            )
    return found


def _confirmed_at(events: Sequence[dict[str, Any]]) -> datetime | None:
    return next((event["at"] for event in events if event["new_state"] in CONFIRMED), None)


def share_within(seconds: Sequence[float], limit_s: float) -> float:
    """Of 1, how many came within the limit; 1 where there was nothing to come."""
    return sum(value <= limit_s for value in seconds) / len(seconds) if seconds else 1.0


def quantile(seconds: Sequence[float], share: float) -> float:
    """The smallest value that so many of them don't pass."""
    ordered = sorted(seconds)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0
