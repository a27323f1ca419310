"""Following an intent until its lines are settled."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from domain.lifecycle import OrderState
from domain.orders import OrderType
from ops.answers import Json, Lost, NotReached, Problem
from ops.exits import Exit
from ops.progress import SETTLED, Progress

if TYPE_CHECKING:
    from ops.client import Client

QUICK_FOR_S = 5.0  # so long each step of an order is looked for
QUICK_PAUSE_S = 0.15
LONG_POLLS_S = ((30.0, 1), (float("inf"), 3))  # after it: until this age, waits of so many seconds at the server
RETRY_PAUSE_S = 1.0
LINGER_S = 2.0  # so long a settled order that the market is just filling is followed on


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

    Orders that the market is just filling are given a moment more. It ends early when all that isn't settled is stuck
    and waits for an operator. A lost connection ends nothing: the orders go on without us, and we ask again.

    Raises:
        Problem: the coordinator refuses to show the intent.
    """
    started = clock()
    deadline, settled = started + timeout_s, False
    progress.show(intent)
    while True:
        wait_s = 0 if settled else _wait_s(clock() - started, deadline - clock())
        delay = 0.0 if wait_s else QUICK_PAUSE_S
        try:
            intent = _merged(intent, client.intent(intent["intentId"], wait_s=wait_s))
            progress.show(intent)
        except (NotReached, Lost) as error:
            progress.note(f"{error}; the orders go on, asking again")
            delay = RETRY_PAUSE_S
        except Problem as problem:
            if not problem.is_busy:
                raise
            progress.note(f"{problem}; asking again")
            delay = problem.retry_after_s or RETRY_PAUSE_S
        if is_settled(intent) and not settled:
            deadline, settled = min(deadline, clock() + LINGER_S), True
        left = deadline - clock()
        if left <= 0 or only_stuck(intent) or (settled and not about_to_end(intent)):
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


def about_to_end(intent: Json) -> bool:
    """Whether the market is just filling one of the orders: in parts, or at any price."""
    return any(
        order.get("state") == OrderState.PARTIALLY_FILLED
        or (order.get("state") == OrderState.OPEN and order.get("orderType") == OrderType.MARKET)
        for order in intent.get("orders", [])
    )


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
