"""The simulator's time: it runs, stands still, or jumps, and never goes back."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone

IST = timezone(timedelta(hours=5, minutes=30), "IST")


class Clock:
    """Simulated UTC. Runs with the machine's clock, shifted by what it was told to jump."""

    def __init__(self, *, source: Callable[[], float] = time.time) -> None:
        self._source = source
        self._shift_s = 0.0
        self._frozen_at: datetime | None = None

    @property
    def frozen(self) -> bool:
        return self._frozen_at is not None

    def now(self) -> datetime:
        if self._frozen_at is not None:
            return self._frozen_at
        return datetime.fromtimestamp(self._source() + self._shift_s, UTC)

    def freeze(self) -> None:
        self._frozen_at = self.now()

    def run(self) -> None:
        """Go on from where the clock stands."""
        now, self._frozen_at = self.now(), None
        self._shift_s = now.timestamp() - self._source()

    def jump(self, to: datetime) -> None:
        """
        Raises:
            ValueError: `to` lies before now.
        """
        now = self.now()
        if to < now:
            raise ValueError(f"the clock stands at {now.isoformat()} and can't go back to {to.isoformat()}")
        if self._frozen_at is not None:
            self._frozen_at = to
        else:
            self._shift_s += (to - now).total_seconds()

    def seconds_until(self, moment: datetime) -> float | None:
        """Real seconds until the clock shows `moment`; None where it stands still before it."""
        if self._frozen_at is not None:
            return None if moment > self._frozen_at else 0.0
        return max(0.0, (moment - self.now()).total_seconds())


def ist(moment: datetime) -> datetime:
    return moment.astimezone(IST)


def ist_date(moment: datetime) -> date:
    return ist(moment).date()
