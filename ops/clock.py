"""The clock: one leader among its processes sweeps every second, begins what is scheduled and does what follows switches.

It calls no broker itself. Only the sweep is waited for.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from functools import partial
from pathlib import Path

from domain.errors import StoreAway
from pipeline import logs
from pipeline.aftermath import carry_out
from pipeline.beside import Beside
from pipeline.crash import crash
from pipeline.desk import Desk, from_env
from pipeline.firing import Firing
from pipeline.retention import forget_old
from pipeline.stopping import StopSignals
from pipeline.sweep import Sweep
from store.unit import Leadership

log = logging.getLogger(__name__)

TICK_S = 1.0
PARTITIONS_EVERY_S = 6 * 3600.0
FORGET_EVERY_S = 60.0


def main() -> int:
    logs.begin()
    stop = StopSignals()
    desk = from_env("clock")
    desk.wakeups.start()
    if ready_file := os.environ.get("READY_FILE"):
        Path(ready_file).touch()
    tick_until(stop, desk)
    desk.close()
    return 0


def tick_until(stop: StopSignals | threading.Event, desk: Desk) -> None:
    """Each second, while this process is the leader: begin what is scheduled and what follows switches, and sweep."""
    sweep, firing = Sweep(desk), Firing(desk)
    aftermath = Beside("aftermath", partial(carry_out, desk))
    leadership = Leadership(desk.store, "clock")
    retention = Beside("retention", partial(forget_old, desk))
    partitions_at = forget_at = 0.0
    while not stop.is_set():
        started = time.monotonic()
        try:
            if leadership.held():
                firing.look()
                aftermath.ask()
                sweep.run()
                if started >= forget_at:
                    retention.ask()
                    forget_at = started + FORGET_EVERY_S
                if started >= partitions_at:
                    _make_partitions(desk)
                    partitions_at = started + PARTITIONS_EVERY_S
        except StoreAway as error:
            log.warning("no sweep: %s", error)
        except Exception:
            log.exception("a sweep failed; the next one tries again")
        stop.wait(max(0.05, TICK_S - (time.monotonic() - started)))
    firing.close()
    retention.close()
    aftermath.close()
    leadership.give_up()
    sweep.close()


def _make_partitions(desk: Desk) -> None:
    with desk.store.unit() as unit:
        made = unit.rows("select make_partitions(3)")[0][0]
        crash("clock.partitions.before_commit")
    if made:
        log.info("made %d partitions", made)


if __name__ == "__main__":
    sys.exit(main())
