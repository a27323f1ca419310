"""Admission: the door stays shut while the stages can't keep up, so that what was let in still finishes in time.

While the queue is away nothing moves, so that the age of what waits tells nothing: then a number of rows shuts the door.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from datetime import datetime, timedelta

from domain.commands import CommandKind
from domain.errors import Overloaded, StoreAway
from domain.settings import Settings
from pipeline.chain import FIRST, INTAKE, OUTCOME, dispatch_stage
from pipeline.desk import Desk
from store import commands
from store.unit import Unit

log = logging.getLogger(__name__)

LOOK_S = 0.2
SLOW_CALL_S = 1.0  # a call under way for longer: whoever waits behind it waits for its broker
WINDOW_S = 60.0  # older work than this is somebody's alarm, not a queue
COUNT_S = 1.0  # rows are counted no more often, and for a twentieth of the time at most


class Admission:
    """Looks a few times a second at the oldest due work of the stages before and after dispatch.

    Work that waits for a broker's rate budget, or behind calls that it takes long to answer, does not count: that wait is
    the broker's.
    """

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        # Dispatch counts where the broker sets no rate: there a wait is ours.
        unlimited = [name for name, adapter in desk.adapters.items() if not adapter.capabilities.order_windows]
        self._dispatches = tuple(dispatch_stage(name) for name in unlimited)
        self._stages = (*INTAKE, *OUTCOME)
        self._refusal: Overloaded | None = None
        self._count_at = 0.0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="admission", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()

    def refuse(self) -> Overloaded | None:
        """Why nothing new is let in at this moment, or None."""
        return self._refusal

    def look(self) -> None:
        settings, now = self._desk.settings(), self._desk.now()
        if self._desk.wakeups.connected:
            self._refusal = self._judge_age(settings, now)
            self._count_at = 0.0
        else:
            self._knock()
            if time.monotonic() >= self._count_at:
                self._refusal = self._judge_rows(settings, now)

    def _judge_age(self, settings: Settings, now: datetime) -> Overloaded | None:
        def age_at(unit: Unit, stages: Sequence[str]) -> float:
            oldest = commands.oldest_at(unit, stages, now, now - timedelta(seconds=WINDOW_S))
            return (now - oldest).total_seconds() if oldest is not None else 0.0

        with self._desk.store.unit() as unit:
            age_s = age_at(unit, (*self._stages, *self._dispatches))
            if age_s > settings.admission_age_s and self._dispatches:
                lease_s = settings.place_timeout_s + settings.lease_margin_s
                began_by = now - timedelta(seconds=SLOW_CALL_S)
                slow = commands.sending_since(unit, self._dispatches, began_by + timedelta(seconds=lease_s))
                age_s = age_at(unit, (*self._stages, *(stage for stage in self._dispatches if stage not in slow)))
        if age_s > settings.admission_age_s / 2:
            self._knock()
        if age_s <= settings.admission_age_s:
            return None
        return Overloaded(
            f"the oldest waiting order is {age_s:.1f} s old, over {settings.admission_age_s:g} s", retry_after_s=1
        )

    def _judge_rows(self, settings: Settings, now: datetime) -> Overloaded | None:
        began = time.monotonic()
        with self._desk.store.unit() as unit:
            is_full = commands.are_due(unit, (*self._stages, *self._dispatches), now, settings.admission_rows)
        self._count_at = began + max(COUNT_S, 20 * (time.monotonic() - began))
        if not is_full:
            return None
        return Overloaded(f"the queue is away, and {settings.admission_rows} orders wait for it", retry_after_s=5)

    def _knock(self) -> None:
        """Have a wake-up published, as a look at the queue: a door that lets nobody in publishes none of its own."""
        self._desk.wakeups.wake(FIRST[CommandKind.PLACE])

    def _watch(self) -> None:
        while not self._stopping.wait(LOOK_S):
            try:
                self.look()
            except StoreAway as error:
                log.debug("admission can't look: %s", error)
            except Exception:  # the door must not stay as it is for ever
                log.exception("admission can't look")
