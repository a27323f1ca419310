"""Counts calls in calendar windows, by the machine's own clock: a broker's limits don't stand still with ours."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping


class Windows:
    """Calls of each account and bucket in the current second, minute, and so on."""

    def __init__(self, *, source: Callable[[], float] = time.time) -> None:
        self._source = source
        self._counts: dict[tuple[str, str, int], tuple[int, int]] = {}  # to the window's number, and its calls

    def take(self, account: str, bucket: str, allowed: Mapping[int, int], calls: int = 1) -> bool:
        """Count so many calls, unless a window has no room for them all."""
        now = int(self._source())
        taken: dict[int, int] = {}
        for seconds in allowed:
            number, count = self._counts.get((account, bucket, seconds), (-1, 0))
            taken[seconds] = count if number == now // seconds else 0
        if any(taken[seconds] + calls > most for seconds, most in allowed.items()):
            return False
        for seconds in allowed:
            self._counts[account, bucket, seconds] = (now // seconds, taken[seconds] + calls)
        return True

    def clear(self) -> None:
        self._counts.clear()
