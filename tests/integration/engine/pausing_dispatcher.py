"""A dispatcher that is stopped between the commit of its attempt and its call: `python pausing_dispatcher.py URL`.

Prints "paused" before it stops itself by SIGSTOP; after it was woken, how many calls were made.
"""

from __future__ import annotations

import os
import signal
import sys

from house import FakeBroker, House

from pipeline import pump


def pause(point: str) -> None:
    if point == "dispatch.after_commit":
        print("paused", flush=True)
        os.kill(os.getpid(), signal.SIGSTOP)


def main(url: str) -> None:
    pump.crash = pause
    house, broker = House(url, url, ""), FakeBroker()
    dispatcher = house.dispatcher(house.desk(broker))
    dispatcher.pump("-")
    dispatcher.stop(10)
    house.close()
    print(len(broker.calls), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
