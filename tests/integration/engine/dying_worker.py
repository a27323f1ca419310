"""Workers of the intake group that one order kills, or a crash point: `python dying_worker.py URL`.

Reads lines of `ORDER POINT` ("-" for none). For each it forks a worker that works once through what is due, and writes
how that ended: 0, or the signal's number. Forking saves the seconds that an interpreter takes to start.
"""

from __future__ import annotations

import os
import signal
import sys

from house import House, intake_engine

from domain.orders import Order
from domain.verdicts import Proceed, Verdict
from pipeline import crash
from pipeline.intake_group import Facts


def main(url: str) -> None:
    for line in sys.stdin:
        poison, point = line.split()
        child = os.fork()
        if child == 0:
            work(url, poison, point)
        _, status = os.waitpid(child, 0)
        print(os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status), flush=True)


def work(url: str, poison: str, point: str) -> None:
    def judge(order: Order, _facts: Facts) -> Verdict:
        if order.id == poison:
            os.kill(os.getpid(), signal.SIGKILL)
        return Proceed()

    if point != "-":
        crash._WANTED = crash._NAME = point
        crash._COUNT = ""
    house = House(url, url, "")
    intake_engine(house.desk(), margin=judge).run("validate", "-")
    house.close()
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1])
