"""What a person sees while orders move: a live table on a terminal, one line a change anywhere else."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Protocol

from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.live import Live
from rich.text import Text

from domain.lifecycle import AT_BROKER, TERMINAL, UNSENT, OrderState
from ops.answers import Json
from ops.grid import Column, grid
from ops.orderfile import line_label
from ops.screen import Screen
from ops.show import IST, LINE, ORDER_COLUMNS, reason, reason_code, reasons

STAGES = ("validate", "risk", "margin", "route", "dispatch", "persist", "notify")
DONE, NOW, TO_COME, STOPPED, NOT_KNOWN, WAITS = "●", "◐", "○", "✗", "?", "‖"
SIGN_OF_WORK = {"UNKNOWN": NOT_KNOWN, "STUCK": STOPPED, "HELD": WAITS}
SIGN_STYLE = {
    DONE: "green",
    NOW: "bold blue",
    TO_COME: "bright_black",
    STOPPED: "bold red",
    NOT_KNOWN: "bold yellow",
    WAITS: "magenta",
}
LEGEND = "stages: " + ", ".join(STAGES)
# Which stage gives which refusal; validate gives the many others of domain.rejections, which is not imported for the
# time that takes. A code in ELSEWHERE is no stage's.
REFUSED_IN = {
    "RESTRICTED": "risk",
    "RISK_LIMIT": "risk",
    "PRICE_BAND": "risk",
    "PRICE_DEVIATION": "risk",
    "MARGIN_ESTIMATE": "margin",
    "KEY_REVOKED": "dispatch",
    "NOT_SENT": "dispatch",
    "EXPIRED_UNSENT": "dispatch",
    "BROKER_REFUSED": "dispatch",
    "BROKER_REJECTED": "dispatch",
}
ELSEWHERE = frozenset({"", "HALTED", "REDUCING_ONLY", "DISCARDED", "NOT_TAKEN", "GROUP_REJECTED"})
NOT_LIVE = ("order", "account", "terms", "average")  # columns that wait for the end
PLAIN_WORK = frozenset({None, "READY", "SENDING"})  # says nothing that the state doesn't
SPACED_FROM = 110  # terminal width from which the steps are spaced out
SETTLED = TERMINAL | AT_BROKER - {OrderState.SUBMITTED}


class Progress(Protocol):
    def show(self, intent: Json) -> None: ...

    def note(self, text: str) -> None: ...


@contextmanager
def progress_on(console: Console, *, title: str) -> Iterator[Progress]:
    """A live table where the console is a terminal that can redraw, else plain lines."""
    if not console.is_terminal or console.is_dumb_terminal:
        yield PlainProgress(console)
        return
    table = LiveProgress(title)
    with Live(table, console=console, refresh_per_second=8, transient=True):
        yield table


class PlainProgress:
    """One line on the console for each change of each order."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._last: dict[int, tuple[object, ...]] = {}

    def show(self, intent: Json) -> None:
        for order in intent.get("orders", []):
            line, news = int(order.get("line", 0)), _news(order)
            if self._last.get(line) != news:
                self._last[line] = news
                self._say(_sentence(order))

    def note(self, text: str) -> None:
        self._say(text)

    def _say(self, text: str) -> None:
        now = datetime.now(IST).strftime("%H:%M:%S.%f")[:-3]
        self._console.print(f"{now} {text}", markup=False, highlight=False, soft_wrap=True)


class StreamProgress:
    """One document a line on standard output for each change, for a program that follows along."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._last: Json | None = None

    def show(self, intent: Json) -> None:
        if intent != self._last:
            self._last = intent
            self._screen.row(intent)

    def note(self, text: str) -> None:
        self._screen.note(text)


class LiveProgress:
    """A table redrawn in place: every line, or the ones that still move when they are too many for the screen."""

    def __init__(self, title: str) -> None:
        self._title, self._note = title, ""
        self._intent: Json = {}
        self._started = time.monotonic()

    def show(self, intent: Json) -> None:
        self._intent, self._note = intent, ""

    def note(self, text: str) -> None:
        self._note = text

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        orders: list[Json] = self._intent.get("orders", [])
        width, room = options.max_width, max(options.size.height - 5, 3)
        told = reasons(orders)[: max(room - len(orders), 0)]
        shown = (
            orders
            if len(orders) <= room
            else sorted(orders, key=lambda order: order.get("state") in SETTLED)[: room - 1]
        )
        parts: list[object] = [self._headline(), grid(shown, self._columns(width), width=width, hide_empty=False)]
        if len(shown) < len(orders):
            parts.append(Text(f"… and {len(orders) - len(shown)} more lines", style="bright_black"))
        parts += told
        if len(orders) < room - 1:
            parts.append(Text(LEGEND, style="bright_black", no_wrap=True, overflow="ellipsis"))
        if self._note:
            parts.append(Text(self._note, style="yellow"))
        yield Group(*parts)  # type: ignore[arg-type]

    def _columns(self, width: int) -> list[Column]:
        spaced = width >= SPACED_FROM
        title = " ".join(name[0].upper() for name in STAGES) if spaced else "stages"

        shown = [column for column in ORDER_COLUMNS if column.title not in NOT_LIVE]
        at = next(index for index, column in enumerate(shown) if column.title == "state")
        return [LINE, *shown[:at], Column(title, lambda order: steps(order, spaced=spaced)), *shown[at:]]

    def _headline(self) -> Text:
        settled, total = self._intent.get("settled"), self._intent.get("total")
        counts = f"{settled} of {total} settled" if settled is not None else "accepted"
        elapsed = time.monotonic() - self._started
        return Text.assemble((self._title, "bold"), f"  {counts}  {elapsed:.1f} s", no_wrap=True, overflow="ellipsis")


def steps(order: Json, *, spaced: bool = False) -> Text:
    """Where an order stands in the seven stages: "●●●◐○○○"."""
    work = order.get("work") or {}
    at, word = _stage_of(order), str(work.get("state") or "")
    if order.get("state") == OrderState.REJECTED:
        sign, at = STOPPED, _stage_that_refused(reason_code(order))
    elif word == "DONE" or (at is None and order.get("state") not in UNSENT):
        sign, at = DONE, len(STAGES) - 1
    else:
        sign = SIGN_OF_WORK.get(word, NOW)
    signs = [TO_COME] * len(STAGES)
    if at is not None:
        signs[: at + 1] = [DONE] * at + [sign]
    text = Text()
    for index, one in enumerate(signs):
        text.append(" " if spaced and index else "").append(one, style=SIGN_STYLE[one])
    return text


def _stage_that_refused(code: str) -> int | None:
    return None if code in ELSEWHERE else STAGES.index(REFUSED_IN.get(code, "validate"))


def _stage_of(order: Json) -> int | None:
    stage = str((order.get("work") or {}).get("stage") or "").split(".")[0]
    stage = "dispatch" if stage == "groups" else stage  # a held line waits before it
    return STAGES.index(stage) if stage in STAGES else None


def _news(order: Json) -> tuple[object, ...]:
    work = order.get("work") or {}
    return (
        order.get("state"),
        work.get("stage"),
        work.get("state"),
        order.get("broker"),
        order.get("filledQuantity"),
        reason(order),
    )


def _sentence(order: Json) -> str:
    """ "line 2 (leg-2) BUY 10 NSE:INFY: SENDING, dispatch.upstox at UPSTOX"."""
    terms = " ".join(str(order[name]) for name in ("side", "quantity", "instrument") if order.get(name))
    words = [str(order.get("state") or "?")]
    work = order.get("work") or {}
    if work.get("stage") and work.get("state") not in ("DONE", "HELD"):  # why it is held comes last
        words.append(f"in {work['stage']}" + ("" if work.get("state") in PLAIN_WORK else f" ({work.get('state')})"))
    if order.get("broker"):
        words.append(f"{'for' if order.get('state') in UNSENT else 'at'} {order['broker']}")
    if order.get("filledQuantity"):
        words.append(f"filled {order['filledQuantity']} of {order.get('quantity')}")
    if reason(order):
        words.append(reason(order))
    label = line_label(int(order.get("line", 0)), order)
    return f"{label} {terms}: ".replace(" :", ":") + ", ".join(words)
