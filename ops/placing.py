"""`trader order place-multi`: read a file of orders, hand it in exactly once, follow it to its end."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rich.text import Text

from domain.ids import new_id
from ops.answers import Json, Lost, NotReached, Placed, Problem
from ops.exits import Exit, Failed
from ops.grid import grid
from ops.orderfile import OrderFile, read_orders
from ops.progress import progress_on
from ops.session import DEFAULTS, Options, Session, session
from ops.show import CHANGED, LINE, ORDER_COLUMNS, reason, reasons, short, state
from ops.watching import exit_of, follow, only_stuck

if TYPE_CHECKING:
    from ops.client import Client

PAUSES_S = (0.3, 0.6, 1.2, 2.4, 4.8)  # between tries with one key
PAUSES_UNHEARD = 2  # of these, as long as no try can have reached anybody

TERMS = frozenset({"instrument", "side", "quantity", "product", "orderType", "price", "triggerPrice", "validity"})

Policy = Literal["BEST_EFFORT", "FAIL_FAST", "ALL_OR_NONE"]
Say = Callable[[str], None]


def place_multi(
    file: Path,
    /,
    *,
    wait: bool = True,
    timeout: float = 60.0,
    policy: Policy | None = None,
    idempotency_key: str | None = None,
    options: Options = DEFAULTS,
) -> Exit:
    """Place every order of a file, exactly once.

    The same key with the same file never places twice:
    in doubt, repeat the command with the key it printed.
    Ctrl-C ends the waiting, not the orders.

    Args:
        file: orders as JSON, like examples/orders.json; - is standard input.
        wait: follow the orders until each is settled (ended, or confirmed at its broker), or only hand them in.
        timeout: seconds to follow them for; what isn't settled then exits with 5.
        policy: BEST_EFFORT: each line on its own. FAIL_FAST: one after another, up to the first that isn't taken.
            ALL_OR_NONE: nothing is sent before every line may be. Not given: as the file says, or your settings.
        idempotency_key: 16 to 255 visible ASCII characters; made and printed when not given.
    """
    with session(options) as here:
        orders = read_orders(file)
        here.place_of = orders.place_of
        if policy is not None:
            orders.request["policy"] = policy
        key = idempotency_key or new_id()
        count = len(orders.lines)
        here.screen.note(
            f"{count} {'order' if count == 1 else 'orders'} to {here.target.base_url} (from {here.target.source})"
        )
        if idempotency_key is None:
            here.screen.note(f"to repeat safely, add --idempotency-key {key}")
        placed = submit(here.client, orders.request, key, say=here.screen.note, again=_again(orders, key, policy))
        intent = _with_words_of(placed.document, orders)
        about: Json = {"idempotencyKey": key, "replayed": placed.replayed}
        if placed.replayed:
            here.screen.note("this key was used before: this is the intent it made then, nothing was placed again")
        if wait:
            return watch(here, intent, timeout_s=timeout, about=about)
        show_intent(here, intent, about=about)
        here.screen.note(f"accepted, not waited for; to follow: trader intent watch {intent['intentId']}")
        return Exit.OK


def submit(
    client: Client, request: Json, key: str, *, say: Say, again: str = "", pause: Callable[[float], None] = time.sleep
) -> Placed:
    """Hand the orders in. Raises as `hand_in`."""
    return hand_in(lambda: client.place(request, key), say=say, again=again, pause=pause)


def hand_in(
    send: Callable[[], Placed],
    *,
    say: Say,
    again: str = "",
    what: str = "the orders",
    pause: Callable[[float], None] = time.sleep,
) -> Placed:
    """Hand a request in, trying again with the same key while that may help. `again` is the command that finds out.

    Raises:
        NotReached: no try reached the coordinator, so nothing was stored.
        Failed: a try may have reached it, and it can't be learned now whether it took the request.
        Problem: the coordinator refuses.
    """
    heard = False
    for tried in range(len(PAUSES_S) + 1):
        pause_s = PAUSES_S[tried] if tried < len(PAUSES_S) else None
        try:
            return send()
        except NotReached as error:
            if not heard and (pause_s is None or tried >= PAUSES_UNHEARD):
                raise
            why = str(error)
        except Lost as error:
            heard, why = True, str(error)
        except Problem as problem:
            heard = heard or problem.may_be_stored
            if not (problem.is_busy or problem.may_be_stored) or (pause_s is None and not heard):
                raise
            why = str(problem)
            pause_s = pause_s and max(pause_s, min(problem.retry_after_s or 0, PAUSES_S[-1]))
        except KeyboardInterrupt:
            why = "interrupted while handing in"
            break
        if pause_s is not None:
            say(f"{why}; trying again with the same key in {pause_s:g} s")
            pause(pause_s)
    mend = f"It isn't known whether the coordinator took {what}. Find out, without doing it twice:\n{again}"
    raise Failed(Exit.NOT_KNOWN, why, mend=mend, code="OUTCOME_NOT_KNOWN")


def watch(here: Session, intent: Json, *, timeout_s: float, about: Json | None = None) -> Exit:
    """Follow an intent on the screen, show how it ended, and say so in the exit code."""
    try:
        with progress_on(here.screen.err, title=f"intent {intent['intentId']}") as progress:
            intent = follow(here.client, intent, progress, timeout_s=timeout_s)
    except KeyboardInterrupt:
        here.screen.note("the waiting was ended, the orders go on")
        intent = _as_it_stands(here.client, intent)
    show_intent(here, intent, about=about)
    return end_of(here, intent)


def end_of(here: Session, intent: Json) -> Exit:
    """The exit code, and how to go on when it isn't known yet."""
    exit_code = exit_of(intent)
    if exit_code is Exit.NOT_KNOWN:
        why = "what isn't settled is stuck" if only_stuck(intent) else "not settled yet"
        here.screen.note(f"{why}; to follow on: trader intent watch {intent['intentId']}")
    return exit_code


def show_intent(here: Session, intent: Json, *, about: Json | None = None) -> None:
    """The lines as a table, what went wrong in full below it, and where to read on."""
    orders: list[Json] = intent.get("orders", [])
    wide = here.screen.out.width
    known = intent.get("settled") is not None
    head = Text.assemble(("intent ", "bold"), str(intent.get("intentId")), "  ", state(intent.get("status")))
    if known:
        head.append(f"  {intent['settled']} of {intent.get('total')} settled")
    parts: list[Text] = []
    told = reasons(orders)
    if told:
        parts = [Text(""), *told]
    here.screen.result(
        {**intent, **(about or {})}, head, Text(""), grid(orders, (LINE, *ORDER_COLUMNS, CHANGED), width=wide), *parts
    )
    if orders and not here.screen.json:
        worth_telling = next((order for order in orders if reason(order)), orders[0])
        here.screen.note(f"one order's whole story: trader order explain {short(worth_telling.get('orderId'))}")


def _as_it_stands(client: Client, intent: Json) -> Json:
    try:
        return client.intent(intent["intentId"])
    except (NotReached, Lost, Problem):
        return intent


def _with_words_of(intent: Json, orders: OrderFile) -> Json:
    """The acceptance, its lines with the request's own words, until the coordinator tells the whole."""
    asked = {
        line: {name: told for name, told in order.items() if name in TERMS} for line, order in enumerate(orders.lines)
    }
    lines = [{**asked.get(order.get("line", -1), {}), **order} for order in intent.get("orders", [])]
    return {**intent, "orders": lines}


def _again(orders: OrderFile, key: str, policy: Policy | None) -> str:
    chosen = f" --policy {policy}" if policy is not None else ""
    return f"trader order place-multi {shlex.quote(orders.name)}{chosen} --idempotency-key {shlex.quote(key)}"
