"""Wake-ups: "this stage may have work". Published here and nowhere else, after the commit, by one thread a process."""

from __future__ import annotations

import logging
import math
import threading
import time
from datetime import datetime

from pipeline.chain import queue_of
from pipeline.crash import crash
from pipeline.rabbit import NO_HEARTBEAT, connect, cut, wakeup_message

log = logging.getLogger(__name__)

INTERVAL_S = 0.01  # at most one wake-up per stage in this time; the first goes at once
BUSY_INTERVAL_S = 0.06  # where they have come in one stream: its worker goes on by itself while it finds work
STREAM = 8  # so many, each within two intervals of the one before, are a stream
DEADLINE_S = 2.0  # a confirmed publish may block without end; past this its connection is cut
LATER_S = 0.01
PAUSE_S = 0.5  # after a failure
DEEP = "-"  # as `since`: look at everything that is due


class Wakeups:
    """Publishes wake-ups, confirmed and coalesced. A wake-up that can't be published is dropped: the sweep covers it."""

    def __init__(self, url: str) -> None:
        self._broker = connect(url, heartbeat_s=NO_HEARTBEAT)
        self._pending: dict[str, str | None] = {}
        self._later: set[tuple[float, str]] = set()  # when, and which stage
        self._sent_at: dict[str, float] = {}
        self._streams: dict[str, int] = {}  # by stage: how many came close upon each other, up to the last
        self._changed = threading.Condition()
        self._stopping = False
        self._stopped = threading.Event()  # not the condition: a notify that met this thread would wake nobody else
        self._publishing_since: float | None = None
        self._connected = True
        self._thread = threading.Thread(target=self._publish_all, name="wakeups", daemon=True)
        self._watch = threading.Thread(target=self._cut_what_hangs, name="wakeups-watch", daemon=True)
        self._started = False

    def start(self) -> None:
        self._started = True
        self._thread.start()
        self._watch.start()

    @property
    def connected(self) -> bool:
        """Whether the last publish went through."""
        return self._connected

    def wake(self, stage: str, *, since: datetime | None = None, deep: bool = False) -> None:
        """Ask for a wake-up of a stage; returns at once.

        `since` has the stage look at what fell due from then on, `deep` at everything; by default each worker goes
        on from where it is.
        """
        wanted = DEEP if deep else since.isoformat() if since is not None else None
        with self._changed:
            known = self._pending.get(stage)
            if stage in self._pending:
                if wanted is None or known == DEEP or (known is not None and wanted != DEEP and wanted >= known):
                    return
                self._pending[stage] = wanted
                return
            self._pending[stage] = wanted
            self._changed.notify()

    def wake_later(self, stage: str, wait_s: float) -> None:
        """Ask for a wake-up once work falls due; the sweep stands behind it."""
        # Rounded up, so that however much is asked for, a stage has few wake-ups ahead of it.
        at = math.ceil((time.monotonic() + wait_s) / LATER_S) * LATER_S
        with self._changed:
            if (at, stage) not in self._later:
                self._later.add((at, stage))
                self._changed.notify()

    def stop(self, timeout_s: float = 2.0) -> None:
        """Publish what is pending, at most for the time given, and end."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._stopped.set()
        if self._started:
            self._thread.join(timeout_s)

    def _publish_all(self) -> None:
        while True:
            with self._changed:
                self._fall_due()
                while not self._pending and not self._stopping:
                    self._changed.wait(self._until_later())
                    self._fall_due()
                if not self._pending:
                    break
                now = time.monotonic()
                free_at = {stage: self._sent_at.get(stage, 0.0) + self._interval_s(stage) for stage in self._pending}
                due = [stage for stage, at in free_at.items() if at <= now]
                if not due and not self._stopping:
                    self._changed.wait(max(min(free_at.values()) - now, 0.0005))
                    continue
                batch = {stage: self._pending.pop(stage) for stage in (due or list(self._pending))}
            for stage, since in batch.items():
                self._publish(stage, since)
        self._close()

    def _fall_due(self) -> None:
        now = time.monotonic()
        for at, stage in [entry for entry in self._later if entry[0] <= now]:
            self._later.discard((at, stage))
            self._pending.setdefault(stage, None)

    def _until_later(self) -> float | None:
        """Seconds until the next of those asked for later; None where there is none."""
        return max(0.0, min(self._later)[0] - time.monotonic()) if self._later else None

    def _interval_s(self, stage: str) -> float:
        return BUSY_INTERVAL_S if self._streams.get(stage, 0) >= STREAM else INTERVAL_S

    def _publish(self, stage: str, since: str | None) -> None:
        now = time.monotonic()
        follows = now - self._sent_at.get(stage, 0.0) < 2 * self._interval_s(stage)
        self._streams[stage] = self._streams.get(stage, 0) + 1 if follows else 0
        self._sent_at[stage] = self._publishing_since = now
        try:
            crash("wakeups.before_publish")
            self._broker.enqueue(wakeup_message(queue_of(stage), since))
            crash("wakeups.after_publish")
            self._connected = True
        except Exception as error:  # noqa: BLE001 - whatever the queue does, the sweep covers the wake-up
            if self._connected:
                log.warning("the queue does not take wake-ups: %s", error or type(error).__name__)
            self._connected = False
            self._publishing_since = None
            self._close()
            self._stopped.wait(PAUSE_S)
        finally:
            self._publishing_since = None

    def _cut_what_hangs(self) -> None:
        while not self._stopping:
            since = self._publishing_since
            if since is not None and time.monotonic() - since > DEADLINE_S:
                self._cut()
            self._stopped.wait(DEADLINE_S / 4)

    def _cut(self) -> None:
        for connection in tuple(self._broker.connections):
            log.warning("a wake-up was not confirmed within %s s: connection cut", DEADLINE_S)
            cut(connection)

    def _close(self) -> None:
        try:
            self._broker.close()
        except Exception as error:  # noqa: BLE001 - it is being thrown away
            log.debug("closing the queue's connection: %s", error)
