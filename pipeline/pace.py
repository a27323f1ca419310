"""Pace: under load, fewer and larger batches; without load, no delay at all.

A batch costs a few milliseconds of processor time before its first order. A stage that is not the slowest one finds a
new order each time it looks, and would spend that price on each. So a batch begins no sooner than a moment after the
one before it began: what comes in between goes along.
"""

from __future__ import annotations

import threading
import time


class Pace:
    """Shared by the threads that do the same work."""

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._lock = threading.Lock()
        self._next = 0.0
        self._never = threading.Event()

    def keep(self) -> None:
        """Return when the next batch may begin; at once where the last one began long enough ago."""
        with self._lock:
            now = time.monotonic()
            wait_s = self._next - now
            self._next = max(now, self._next) + self._interval_s
        if wait_s > 0:
            self._never.wait(wait_s)
