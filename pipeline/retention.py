"""Retention: what has had its time goes, a few rows at a time: deliveries of signals, schedules that are over, kept answers.

An accepted signal with a nonce stays, since its nonce stands for its order for ever; so does a used idempotency key,
whose answer alone goes.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from pipeline.crash import crash
from pipeline.desk import Desk
from store import acts, schedules, signals
from store.unit import Unit

BATCH = 500  # rows of one kind in one transaction
BATCHES_MAX = 20  # of one kind in one run


def forget_old(desk: Desk) -> int:
    """How many rows are gone. Raises StoreAway."""
    now, settings = desk.now(), desk.settings()
    delivered = now - timedelta(days=settings.signals_kept_days)  # never less than a window
    ended = now - timedelta(days=settings.schedules_kept_days)
    window = timedelta(seconds=settings.idempotency_window_s)
    answered = now - max(window, timedelta(days=settings.answers_kept_days))
    revoked = now - timedelta(days=2)  # what was placed before is over after one
    return sum(
        (
            _forgotten(desk, lambda unit: signals.forget(unit, delivered, limit=BATCH)),
            _forgotten(desk, lambda unit: schedules.forget(unit, ended, limit=BATCH)),
            _forgotten(desk, lambda unit: acts.forget(unit, answered, limit=BATCH)),
            _forgotten(desk, lambda unit: signals.forget_revocations(unit, revoked, limit=BATCH)),
        )
    )


def _forgotten(desk: Desk, forget: Callable[[Unit], int]) -> int:
    gone = 0
    for _ in range(BATCHES_MAX):
        with desk.store.unit() as unit:
            batch = forget(unit)
            crash("retention.before_commit")
        gone += batch
        if batch < BATCH:
            break
    return gone
