"""What is to happen at the exchange, and when: events in the order of their time, then of their scheduling."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from datetime import datetime, timedelta

Act = Callable[[], None]


class Timeline:
    """Simulated time goes on only in `advance`, event by event."""

    def __init__(self, now: datetime) -> None:
        self.now = now
        self.target = now  # how far the advance under way goes
        self._events: list[tuple[datetime, int, Act]] = []
        self._count = 0

    @property
    def next_at(self) -> datetime | None:
        return self._events[0][0] if self._events else None

    def at(self, when: datetime, act: Act) -> None:
        self._count += 1
        heapq.heappush(self._events, (when, self._count, act))

    def later(self, delay_ms: int, act: Act) -> None:
        self.at(self.now + timedelta(milliseconds=delay_ms), act)

    def advance(self, to: datetime) -> None:
        """Let everything happen that is due until then, and what that brings about in turn."""
        self.target = max(to, self.now)
        while self._events and self._events[0][0] <= self.target:
            when, _, act = heapq.heappop(self._events)
            self.now = max(self.now, when)
            act()
        self.now = self.target
