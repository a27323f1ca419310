"""Admission: the door stays shut while the stages can't keep up, so that what was let in still finishes in time."""

from __future__ import annotations

import logging
import threading
from datetime import timedelta

from domain.errors import Overloaded, StoreAway
from pipeline.chain import INTAKE, OUTCOME, dispatch_stage
from pipeline.desk import Desk
from store import commands

log = logging.getLogger(__name__)

LOOK_S = 0.2
WINDOW_S = 60.0  # older work than this is somebody's alarm, not a queue


class Admission:
    """Looks a few times a second at the oldest due work of the stages before and after dispatch.

    Work that waits for a broker's rate budget does not count: that wait is the broker's.
    """

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        # Dispatch counts where the broker sets no rate: there a wait is ours.
        unlimited = (name for name, adapter in desk.adapters.items() if not adapter.capabilities.order_windows)
        self._stages = (*INTAKE, *OUTCOME, *(dispatch_stage(name) for name in unlimited))
        self._refusal: Overloaded | None = None
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
        settings = self._desk.settings()
        now = self._desk.now()
        with self._desk.store.unit() as unit:
            oldest = commands.oldest_at(unit, self._stages, now, now - timedelta(seconds=WINDOW_S))
        age_s = (now - oldest).total_seconds() if oldest is not None else 0.0
        if age_s > settings.admission_age_s:
            self._refusal = Overloaded(
                f"the oldest waiting order is {age_s:.1f} s old, over {settings.admission_age_s:g} s", retry_after_s=1
            )
        else:
            self._refusal = None

    def _watch(self) -> None:
        while not self._stopping.wait(LOOK_S):
            try:
                self.look()
            except StoreAway as error:
                log.debug("admission can't look: %s", error)
            except Exception:  # the door must not stay as it is for ever
                log.exception("admission can't look")
