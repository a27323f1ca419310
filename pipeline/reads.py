"""Reads in the audit log: where the audit level is ALL, each is written down before it is answered."""

from __future__ import annotations

from pipeline.crash import crash
from pipeline.desk import Desk
from store import audit


def note(desk: Desk, actor: str, operation: str, subject: str, via: str) -> None:
    """Raises StoreAway: what can't be written down isn't answered."""
    with desk.store.unit() as unit:
        audit.write(unit, desk.now(), actor, f"read.{operation}", subject, {"via": via})
        crash("reads.before_commit")
    crash("reads.after_commit")
