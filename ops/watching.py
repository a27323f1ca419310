"""Following an intent until its lines are settled."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from ops.answers import Json, Lost, NotReached, Problem
from ops.exits import Exit
from ops.progress import SETTLED, Progress

if TYPE_CHECKING:
    from ops.client import Client

QUICK_FOR_S = 5.0  # so long each step of an order is looked for
QUICK_PAUSE_S = 0.15
LONG_POLLS_S = ((30.0, 1), (float("inf"), 3))  # after it: until this age, waits of so many seconds at the server
RETRY_PAUSE_S = 1.0


def follow(
    client: Client,
    intent: Json,
    progress: Progress,
    *,
    timeout_s: float,
    clock: Callable[[], float] = time.monotonic,
    pause: Callable[[float], None] = time.sleep,
) -> Json:
    """The intent as last seen: settled, or as it stood when the time was over.

    It ends early when all that isn't settled is stuck and waits for an operator. A lost connection ends nothing: the
    orders go on without us, and we ask again.

    Raises:
        Problem: the coordinator refuses to show the intent.
    """
    started = clock()
    progress.show(intent)
    while True:
        age = clock() - started
        wait_s = _wait_s(age, timeout_s - age)
        try:
            intent = _merged(intent, client.intent(intent["intentId"], wait_s=wait_s))
            progress.show(intent)
            delay = 0.0 if wait_s else QUICK_PAUSE_S
        except (NotReached, Lost) as error:
            progress.note(f"{error}; the orders go on, asking again")
            delay = RETRY_PAUSE_S
        except Problem as problem:
            if not problem.is_busy:
                raise
            progress.note(f"{problem}; asking again")
            delay = problem.retry_after_s or RETRY_PAUSE_S
        left = timeout_s - (clock() - started)
        if is_settled(intent) or only_stuck(intent) or left <= 0:
            return intent
        pause(min(delay, left))


def exit_of(intent: Json) -> Exit:
    """How a command ends that was about this intent."""
    match intent.get("status"):
        case "DONE":
            return Exit.OK
        case "PARTIAL":
            return Exit.PARTIAL
        case "REJECTED":
            return Exit.REJECTED
    return Exit.NOT_KNOWN


def is_settled(intent: Json) -> bool:
    return intent.get("status") not in (None, "RUNNING")


def only_stuck(intent: Json) -> bool:
    """Nothing moves any more by itself: what isn't settled is stuck."""
    unsettled = [order for order in intent.get("orders", []) if order.get("state") not in SETTLED]
    return bool(unsettled) and all((order.get("work") or {}).get("state") == "STUCK" for order in unsettled)


def _wait_s(age: float, left: float) -> int:
    if age < QUICK_FOR_S:
        return 0
    wait_s = next(wait_s for until, wait_s in LONG_POLLS_S if age < until)
    return max(min(wait_s, int(left)), 0)


def _merged(before: Json, after: Json) -> Json:
    """The newer document, its lines filled up with what only the older one told (the request's own words)."""
    known = {order.get("line"): order for order in before.get("orders", [])}
    lines = [{**known.get(order.get("line"), {}), **order} for order in after.get("orders", [])]
    return {**before, **after, "orders": lines or before.get("orders", [])}
