"""`trader order modify`: new terms for an order that its broker has, for the version that was read."""

from __future__ import annotations

import shlex

from domain.ids import new_id
from ops.answers import Json, Lost, NotReached, Problem
from ops.changewatch import watch_changes
from ops.exits import Exit, Failed
from ops.placing import hand_in
from ops.reading import find_order_id
from ops.session import DEFAULTS, Options, Session, session
from ops.show import short, terms


def order_modify(
    order_id: str,
    /,
    *,
    quantity: int | None = None,
    price: str | None = None,
    trigger_price: str | None = None,
    order_type: str | None = None,
    validity: str | None = None,
    disclosed_quantity: int | None = None,
    version: int | None = None,
    wait: bool = True,
    timeout: float = 60.0,
    idempotency_key: str | None = None,
    options: Options = DEFAULTS,
) -> Exit:
    """Change the terms of an order that rests at its broker; what isn't given stays as it is.

    It is done for one version of the order only: where the order has moved on since, nothing happens, and the coordinator
    says how it stands. A fill may come first; what the broker's book shows in the end is what is told.

    Args:
        order_id: its id, or the last characters of it as tables show them.
        quantity: all of it in units, what is filled already included.
        price: rupees, for LIMIT and SL.
        trigger_price: rupees, for SL and SL-M.
        order_type: MARKET, LIMIT, SL or SL-M.
        validity: DAY or IOC.
        disclosed_quantity: how much of it the market is shown; 0 shows all.
        version: the version that you have read; read and shown now when not given.
        wait: wait until it is known what came of it, or only hand it in.
        timeout: seconds to wait for; what isn't known then exits with 5.
        idempotency_key: 16 to 255 visible ASCII characters; made and printed when not given.
    """
    wanted: Json = {
        "quantity": quantity,
        "price": price,
        "triggerPrice": trigger_price,
        "orderType": order_type and order_type.upper(),
        "validity": validity and validity.upper(),
        "disclosedQuantity": disclosed_quantity,
    }
    wanted = {name: value for name, value in wanted.items() if value is not None}
    with session(options) as here:
        if not wanted:
            mend = "Give at least one of --quantity, --price, --trigger-price, --order-type, --validity, --disclosed-quantity."
            raise Failed(Exit.USAGE, "nothing is to be changed", mend=mend)
        full_id = find_order_id(here.client, order_id)
        if version is None:
            order = here.client.order(full_id)
            version = int(order["version"])
            here.screen.note(_as_it_stands(order))
        key = idempotency_key or new_id()
        if idempotency_key is None:
            here.screen.note(f"to repeat safely, add --version {version} --idempotency-key {key}")
        known = version
        placed = hand_in(
            lambda: here.client.modify(full_id, known, wanted, key),
            say=here.screen.note,
            again=_again(full_id, wanted, known, key),
            what="the modify",
        )
        about: Json = {"idempotencyKey": key, "replayed": placed.replayed}
        if placed.replayed:
            here.screen.note("this key was used before: this is the intent it made then, nothing was asked again")
        intent = placed.document
        if not wait:
            here.screen.result({**intent, **about})
            here.screen.note(f"accepted, not waited for; to follow: trader intent watch {intent['intentId']}")
            return Exit.OK
        exit_code = watch_changes(here, intent, timeout_s=timeout, about=about)
        _tell_order(here, full_id)
        return exit_code


def _tell_order(here: Session, order_id: str) -> None:
    try:
        here.screen.note(_as_it_stands(here.client.order(order_id)))
    except (NotReached, Lost, Problem) as error:
        here.screen.note(f"the order can't be read now: {error}")


def _as_it_stands(order: Json) -> str:
    what = f"{order.get('side')} {order.get('quantity')} {order.get('instrument')}  {terms(order)}"
    filled = f"{order.get('filledQuantity', 0)} filled"
    return (
        f"order {short(order.get('orderId'))} at version {order.get('version')}: {what}, {order.get('state')}, {filled}"
    )


def _again(order_id: str, wanted: Json, version: int, key: str) -> str:
    options = {
        "quantity": "--quantity",
        "price": "--price",
        "triggerPrice": "--trigger-price",
        "orderType": "--order-type",
        "validity": "--validity",
        "disclosedQuantity": "--disclosed-quantity",
    }
    words = [f"{options[name]} {shlex.quote(str(value))}" for name, value in wanted.items()]
    return f"trader order modify {order_id} {' '.join(words)} --version {version} --idempotency-key {shlex.quote(key)}"
