"""Brokers allow an account so many calls and reads in half an hour: a long campaign rests once it has asked for enough."""

from __future__ import annotations

from datetime import datetime, timedelta

from store.attempts import window_start

WINDOW_S = 1800  # Upstox's, by the calendar: 2,000 calls and 2,000 reads
BUSY = timedelta(minutes=10)  # of a campaign's load in one of them; after 13 to 15 minutes nothing was left


class Allowance:
    """How long the load has gone on in the half hour that is under way."""

    def __init__(self, began: datetime) -> None:
        self._since = began

    def rest_s(self, now: datetime) -> float:
        """Seconds to rest, until the next half hour; 0 while there is something left of this one."""
        begin = window_start(WINDOW_S, now)
        self._since = max(self._since, begin)
        if now - self._since < BUSY:
            return 0.0
        return (begin + timedelta(seconds=WINDOW_S) - now).total_seconds()
