"""Workers that one order kills, or a crash point: `python dying_worker.py URL`.

Reads lines of `GROUP ORDER POINT` ("-" for none). For each it forks a worker of that group (intake or dispatch) that
works once through what is due, and writes how that ended: 0, or the signal's number. Forking saves the seconds that an interpreter takes to start.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from house import FakeBroker, House, eventually, intake_engine

from domain.orders import Order
from domain.verdicts import Proceed, Verdict
from pipeline import crash
from pipeline import gate as pipeline_gate
from pipeline.intake_group import Facts


def main(url: str) -> None:
    for line in sys.stdin:
        group, poison, point = line.split()
        child = os.fork()
        if child == 0:
            if point != "-":
                crash._WANTED = crash._NAME = point
                crash._COUNT = ""
            GROUPS[group](House(url, url, ""), poison)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        print(os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status), flush=True)


def intake(house: House, poison: str) -> None:
    def judge(order: Order, _facts: Facts) -> Verdict:
        die_of(order, poison)
        return Proceed()

    intake_engine(house.desk(), margin=judge).run("validate", "-")
    house.close()


def dispatch_(house: House, poison: str) -> None:
    ask = pipeline_gate.last_gate

    def gate(order: Order, *given: Any, **named: Any) -> Verdict:
        die_of(order, poison)
        return ask(order, *given, **named)

    pipeline_gate.last_gate = gate
    dispatcher = house.dispatcher(house.desk(FakeBroker()))
    while dispatcher.pump("-"):
        eventually(lambda: dispatcher.is_idle)
    dispatcher.stop(5)
    house.close()


def die_of(order: Order, poison: str) -> None:
    if order.id == poison:
        os.kill(os.getpid(), signal.SIGKILL)


GROUPS = {"intake": intake, "dispatch": dispatch_}


if __name__ == "__main__":
    main(sys.argv[1])
