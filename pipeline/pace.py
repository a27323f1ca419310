"""Pace: under load, fewer and larger batches; without load, no delay at all.

A batch costs a few milliseconds of processor time before its first order. A stage that is not the slowest one finds a
new order each time it looks, and would spend that price on each. So a batch begins no sooner than a moment after the
one before it began: what comes in between goes along. The moment grows with what a batch takes, so that a machine
that has much to do gets to do it in larger pieces, and one that hasn't waits for nothing.
"""

from __future__ import annotations

import threading
import time

REST = 3.0  # times what a batch took, from its beginning to the next one's
MOST_S = 0.08


class Pace:
    """Shared by the threads that do the same work. `interval_s` stands between two looks at the least."""

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._lock = threading.Lock()
        self._next = 0.0
        self._never = threading.Event()

    def keep(self) -> float:
        """Return when the next batch may begin; at once where the last one began long enough ago. Gives that moment."""
        with self._lock:
            now = time.monotonic()
            begins_at = max(now, self._next)
            self._next = begins_at + self._interval_s
        if begins_at > now:
            self._never.wait(begins_at - now)
        return begins_at

    def took(self, began_at: float) -> None:
        """A batch that found work is done: the next one begins after a rest from it."""
        with self._lock:
            taken_s = time.monotonic() - began_at
            self._next = max(self._next, began_at + min(MOST_S, REST * taken_s))
