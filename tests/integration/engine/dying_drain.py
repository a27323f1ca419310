"""A drain in a process of its own, to be killed: `python dying_drain.py DATABASE_URL QUEUE_URL QUEUE_PREFIX PAUSE_S`."""

from __future__ import annotations

import sys
import threading

from house import House

import pipeline.chain
from pipeline import drain
from pipeline.deadletters import By
from store.stuck import Wanted


def main(database_url: str, queue_url: str, prefix: str, pause_s: float) -> None:
    pipeline.chain.QUEUE_PREFIX = prefix
    drain.PART = 3
    desk = House(database_url, database_url, "", queue_url).desk()
    by = By(operator="asha", reason="the rule is mended")

    def told(_so_far: drain.Drained) -> None:
        threading.Event().wait(pause_s)

    drain.drain(desk, "requeue", Wanted(), by, told=told)
    desk.close()


if __name__ == "__main__":
    main(*sys.argv[1:4], float(sys.argv[4]))
