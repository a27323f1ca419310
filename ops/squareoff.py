"""`trader positions square-off`: close positions with one request, after a look at what that means."""

from __future__ import annotations

import shlex
import sys
from decimal import Decimal
from typing import Annotated

from cyclopts import Parameter
from rich.text import Text

from domain.ids import new_id
from ops.answers import Json
from ops.commandline import Flag
from ops.exits import Exit, Failed
from ops.grid import Column, grid
from ops.placing import hand_in, show_intent, watch
from ops.session import DEFAULTS, Options, Session, session
from ops.show import number, price, side

WHY = {
    "OPEN_ORDERS": "open orders on the other side may still take it (--cancel-open cancels these first)",
    "UNDER_A_LOT": "it is less than a lot",
    "NOT_LISTED": "it is not among today's instruments",
    "TOO_MANY": "one request makes so many orders: ask again for the rest",
    "OTHERS": "other strategies stand against it: the account as a whole does not hold it",
}
ORDER_COLUMNS = (
    Column("account", lambda one: str(one.get("account") or "")),
    Column("instrument", lambda one: str(one.get("instrument") or "")),
    Column("product", lambda one: str(one.get("product") or ""), keep=5),
    Column("side", side),
    Column("quantity", lambda one: number(one.get("quantity")), right=True),
    Column("price", lambda one: price(one.get("price")) or "MARKET", keep=6, right=True),
)


def square_off(
    *,
    broker: str | None = None,
    account: str | None = None,
    instrument: str | None = None,
    product: str | None = None,
    strategy: str | None = None,
    everything: Annotated[bool, Parameter(name="--all", negative=())] = False,
    cancel_open: Flag = False,
    limit_distance: Decimal | None = None,
    market_protection: Decimal | None = None,
    dry_run: Flag = False,
    wait: bool = True,
    timeout: float = 60.0,
    yes: Flag = False,
    idempotency_key: str | None = None,
    options: Options = DEFAULTS,
) -> Exit:
    """Close positions: one order on the other side for each, in one request.

    Several conditions must all hold. Everything is closed only with --all.
    What open orders on the other side may still take is left to them, so that no position is ever turned over.
    Ctrl-C ends the waiting, not the orders.

    Args:
        broker: only those at this broker.
        account: only those of this account.
        instrument: only those in this instrument, such as NSE:INFY.
        product: only MIS, NRML, CNC or MTF; not given: MIS and NRML.
        strategy: what this strategy has made of them.
        everything: every position of yours.
        cancel_open: cancel open orders in these instruments first; what they leave is closed when they have ended.
        limit_distance: LIMIT orders, so many percent beyond the reference price; not given: MARKET.
        market_protection: percent from the last price that a MARKET order may go.
        dry_run: only show what would be closed.
        wait: follow the orders until each is settled, or only hand them in.
        timeout: seconds to follow them for; what isn't settled then exits with 5.
        yes: don't ask.
        idempotency_key: 16 to 255 visible ASCII characters; made and printed when not given.
    """
    conditions = {
        "broker": broker and broker.upper(),
        "account": account,
        "instrument": instrument and instrument.upper(),
        "product": product and product.upper(),
        "strategy": strategy,
    }
    conditions = {name: value for name, value in conditions.items() if value is not None}
    request: Json = {"filter": conditions} if conditions else {}
    request |= {"all": True} if everything else {}
    request |= {"cancelOpen": True} if cancel_open else {}
    if limit_distance is not None:
        request |= {"orderType": "LIMIT", "distancePercent": format(limit_distance, "f")}
    if market_protection is not None:
        request["marketProtection"] = format(market_protection, "f")
    with session(options) as here:
        if not conditions and not everything:
            mend = "Give a filter, or --all for every position of yours."
            raise Failed(Exit.USAGE, "nothing says which positions are meant", mend=mend)
        if dry_run:
            _show(here, here.client.square_off({**request, "dryRun": True}, new_id()).document)
            return Exit.OK
        if not yes and sys.stdin.isatty() and here.screen.err.is_terminal:
            _confirm(here, request)
        return _close(here, request, idempotency_key, wait=wait, timeout=timeout)


def _close(here: Session, request: Json, idempotency_key: str | None, *, wait: bool, timeout: float) -> Exit:
    key = idempotency_key or new_id()
    if idempotency_key is None:
        here.screen.note(f"to repeat safely, add --idempotency-key {key}")
    placed = hand_in(
        lambda: here.client.square_off(request, key),
        say=here.screen.note,
        again=f"the same command with --idempotency-key {shlex.quote(key)}",
        what="the square-off",
    )
    told = placed.document
    about: Json = {"idempotencyKey": key, "replayed": placed.replayed}
    about |= {name: told.get(name) for name in ("left", "cancelIntentId", "scheduleId")}
    if placed.replayed:
        here.screen.note("this key was used before: this is what it did then, nothing was done again")
    closed_later = "OPEN_ORDERS" if told.get("scheduleId") else None
    for line in _left({"left": [one for one in told.get("left", []) if one["why"] != closed_later]}):
        here.screen.note(line.plain)
    if told.get("scheduleId"):
        note = f"open orders are being cancelled ({told['cancelIntentId']}); what they leave is closed by schedule {told['scheduleId']}"
        here.screen.note(note)
    if not told.get("intentId"):
        here.screen.result({**told, **about}, Text("nothing is to be closed at this moment"))
        return Exit.NOT_KNOWN if told.get("scheduleId") else Exit.OK
    intent = here.client.intent(str(told["intentId"]))
    if wait:
        return watch(here, intent, timeout_s=timeout, about=about)
    show_intent(here, intent, about=about)
    here.screen.note(f"accepted, not waited for; to follow: trader intent watch {told['intentId']}")
    return Exit.OK


def _confirm(here: Session, request: Json) -> None:
    """Shows what it means, and asks. Raises Failed: the answer is no."""
    would = here.client.square_off({**request, "dryRun": True}, new_id()).document
    orders: list[Json] = would.get("orders") or []
    left: list[Json] = would.get("left") or [] if request.get("cancelOpen") else []
    if not orders and not left:
        return
    if orders:
        here.screen.err.print(grid(orders, ORDER_COLUMNS, width=here.screen.err.width))
    for one in left:
        place = f"{abs(int(one['quantity']))} {one['instrument']} {one['product']} of {one['account']}"
        here.screen.err.print(Text(f"{place}: open orders there are cancelled, and what they leave of it is closed", style="yellow"))
    here.screen.err.print("close these positions? [y/N] ", end="", markup=False, highlight=False)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise Failed(Exit.ERROR, "nothing was closed", mend="Say y, or give --yes.", code="NOT_CONFIRMED")


def _show(here: Session, told: Json) -> None:
    orders: list[Json] = told.get("orders", [])
    count = f"{len(orders)} {'order' if len(orders) == 1 else 'orders'}"
    parts: list[object] = [Text(f"{count} would be placed; nothing was done" if orders else "nothing is to be closed")]
    if orders:
        parts += [Text(""), grid(orders, ORDER_COLUMNS, width=here.screen.out.width)]
    left = _left(told)
    parts += [Text(""), *left] if left else []
    here.screen.result(told, *parts)  # type: ignore[arg-type]


def _left(told: Json) -> list[Text]:
    return [
        Text(
            f"{abs(int(one['quantity']))} {one['instrument']} {one['product']} of {one['account']} stay open:"
            f" {WHY.get(one['why'], one['why'])}",
            style="yellow",
        )
        for one in told.get("left", [])
    ]
