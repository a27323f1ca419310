"""`trader signal`: signal strategies, their secrets, and what they have received."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.text import Text

from domain.ids import new_id
from ops.answers import Json, Placed
from ops.exits import Exit, Failed
from ops.grid import Column, grid
from ops.orderfile import read_form
from ops.placing import hand_in
from ops.session import DEFAULTS, Options, Session, session
from ops.show import moment, short

FORM = 'A strategy\'s file looks like {"name": "breakout", "template": {"instrument": …}}; see docs/signals.md.'
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._\-]{0,63}")
_STATUS_STYLE = {"ACCEPTED": "green", "SUPPRESSED": "yellow", "REPLAYED": "yellow", "REFUSED": "red"}

STRATEGY_COLUMNS = (
    Column("name", lambda row: str(row.get("name") or "")),
    Column("on", lambda row: "yes" if row.get("enabled") else Text("no", style="red")),
    Column("window", lambda row: f"{row.get('windowSec')} s", right=True),
    Column("broker", lambda row: str(row.get("broker") or ""), keep=5),
    Column("account", lambda row: str(row.get("account") or ""), keep=4),
    Column("strategy", lambda row: str(row.get("strategy") or ""), keep=3),
    Column("address", lambda row: str(row.get("path") or ""), keep=8),
    Column("changed (IST)", lambda row: moment(row.get("updatedAt")), keep=2),
)
RECEIVED_COLUMNS = (
    Column("time (IST)", lambda row: moment(row.get("at"))),
    Column("signal", lambda row: short(row.get("signalId")), keep=6),
    Column("status", lambda row: _status(row)),
    Column("order", lambda row: _order(row.get("order") or {}), keep=8),
    Column("intent", lambda row: str(row.get("intentId") or ""), keep=7),
    Column("nonce", lambda row: str(row.get("nonce") or ""), keep=2),
    Column("reason", lambda row: _reason(row), keep=5, least=16),
)


def signal_set(
    file: Path, /, *, name: str | None = None, idempotency_key: str | None = None, options: Options = DEFAULTS
) -> Exit:
    """Define a signal strategy, or change one. A new one's secret is shown this once.

    Args:
        file: the strategy as JSON, as docs/signals.md has it; - is standard input.
        name: its name, where the file has none or another.
        idempotency_key: 16 to 255 visible ASCII characters; made when not given.
    """
    with session(options) as here:
        form = read_form(file, FORM)
        here.place_of = form.place_of
        named = name or form.request.get("name")
        if not isinstance(named, str) or not _NAME.fullmatch(named):
            raise Failed(Exit.USAGE, f"{form.name} names no strategy", mend='Add "name", or give --name NAME.')
        wanted = {key: value for key, value in form.request.items() if key != "name"}
        key = idempotency_key or new_id()
        again = f"trader signal set {form.name} --name {named} --idempotency-key {key}"
        placed = _handed_in(here, lambda: here.client.set_signal(named, wanted, key), again)
        told = placed.document
        here.screen.result({**told, "url": _url(here, told)}, *_in_words(here, told))
        return Exit.OK


def signal_list(*, options: Options = DEFAULTS) -> Exit:
    """Your signal strategies."""
    with session(options) as here:
        answer = here.client.signals()
        rows = answer.get("strategies", [])
        shown = grid(rows, STRATEGY_COLUMNS, width=here.screen.out.width) if rows else Text("no signal strategies")
        here.screen.result(answer, shown)
        return Exit.OK


def signal_show(name: str, /, *, options: Options = DEFAULTS) -> Exit:
    """One strategy: its address, its window, and where each word of its orders comes from.

    Args:
        name: the strategy's name.
    """
    with session(options) as here:
        told = here.client.signal(name)
        here.screen.result({**told, "url": _url(here, told)}, *_in_words(here, told))
        return Exit.OK


def signal_received(
    name: str, /, *, limit: int = 20, after: str | None = None, options: Options = DEFAULTS
) -> Exit:
    """What a strategy has received, newest first: accepted, suppressed, replayed or refused, and why.

    Args:
        name: the strategy's name.
        limit: how many, at most 500.
        after: go on from this cursor (`next` of the answer before).
    """
    with session(options) as here:
        page = here.client.received(name, limit=limit, after=after)
        rows = page.get("signals", [])
        here.screen.result(
            page, grid(rows, RECEIVED_COLUMNS, width=here.screen.out.width) if rows else Text("no signals")
        )
        if page.get("next") and not here.screen.json:
            here.screen.note(f"there are more: --after {page['next']}")
        return Exit.OK


def signal_rotate(name: str, /, *, idempotency_key: str | None = None, options: Options = DEFAULTS) -> Exit:
    """A new secret for a strategy, shown this once. The old one stops at once.

    Args:
        name: the strategy's name.
        idempotency_key: 16 to 255 visible ASCII characters; made when not given.
    """
    with session(options) as here:
        key = idempotency_key or new_id()
        again = f"trader signal rotate {name} --idempotency-key {key}"
        told = _handed_in(here, lambda: here.client.rotate_signal(name, key), again).document
        here.screen.result(told, Text.assemble(("secret  ", "bold"), str(told.get("secret"))))
        here.screen.note("it is kept as a hash, and can't be shown again")
        return Exit.OK


def signal_remove(
    name: str,
    /,
    *,
    yes: Annotated[bool, Parameter(negative=())] = False,
    idempotency_key: str | None = None,
    options: Options = DEFAULTS,
) -> Exit:
    """Remove a strategy: its signals are refused from now on, its orders stay what they are.

    Args:
        name: the strategy's name.
        yes: really.
        idempotency_key: 16 to 255 visible ASCII characters; made when not given.
    """
    with session(options) as here:
        if not yes:
            mend = f"trader signal remove {name} --yes"
            raise Failed(Exit.USAGE, f"nothing was done: {name} would refuse every signal from then on", mend=mend)
        key = idempotency_key or new_id()
        again = f"trader signal remove {name} --yes --idempotency-key {key}"
        told = _handed_in(here, lambda: here.client.remove_signal(name, key), again).document
        here.screen.result(told, Text(f"{name} is removed"))
        return Exit.OK


def _handed_in(here: Session, send: Callable[[], Placed], again: str) -> Placed:
    return hand_in(send, say=here.screen.note, again=again, what="the strategy")


def _in_words(here: Session, told: Json) -> list[Text]:
    facts = {
        "strategy": told.get("name"),
        "address": _url(here, told),
        "secret": told.get("secret") or "kept as a hash; `trader signal rotate` gives a new one",
        "on": "yes" if told.get("enabled") else "no",
        "window": f"{told.get('windowSec')} s",
        "goes to": " ".join(str(told[name]) for name in ("broker", "account") if told.get(name)) or "your default",
        "orders": f"carry the strategy {told.get('strategy')}",
        "unsent": f"for at most {told['maxUnsentSec']} s" if told.get("maxUnsentSec") else None,
        "version": told.get("version"),
    }
    lines = [Text.assemble((f"{name:<10}", "bold"), str(value)) for name, value in facts.items() if value is not None]
    template = told.get("template") or {}
    return [*lines, *(Text(f"  {name:<14}{_source(of)}") for name, of in template.items() if of)]


def _source(source: Json) -> str:
    words = [f"= {source['value']}" if source.get("value") is not None else f"from {source.get('field')}"]
    if source.get("default") is not None:
        words.append(f"else {source['default']}")
    if source.get("prefix"):
        words.append(f"with {source['prefix']}")
    words += [f"{theirs} → {ours}" for name in ("map", "aliases") for theirs, ours in (source.get(name) or {}).items()]
    return ", ".join(words)


def _url(here: Session, told: Json) -> str:
    return f"{here.target.base_url.rstrip('/')}{told.get('path')}"


def _status(row: Json) -> Text:
    word = str(row.get("status") or "")
    return Text(word, style=_STATUS_STYLE.get(word, "default"))


def _order(order: Json) -> str:
    words = [order.get(name) for name in ("side", "quantity", "instrument", "product", "orderType", "price")]
    return " ".join(str(word) for word in words if word is not None)


def _reason(row: Json) -> str:
    reason = row.get("reason") or {}
    return f"{reason.get('code')}: {reason.get('text')}" if reason else ""
