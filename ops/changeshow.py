"""How an intent that modifies or cancels looks to a person: its lines, the figures of all of them, how it ended."""

from __future__ import annotations

from collections.abc import Iterable

from rich.text import Text

from ops.answers import Json
from ops.exits import Exit
from ops.grid import Column, grid
from ops.orderfile import line_label
from ops.session import Session
from ops.show import LINE, clock, number, price, reason_code, short, side, state

SHOWN = 50  # lines; the others are counted
NOT_KNOWN = "NOT_KNOWN"
WORDS = {
    "CANCELLED": "cancelled",
    "MODIFIED": "modified",
    "FILLED": "filled meanwhile",
    "ENDED": "ended meanwhile",
    "REFUSED": "refused",
    "NOT_APPLIED": "not applied",
    "SKIPPED": "skipped",
    "EXPIRED": "not sent in time",
    NOT_KNOWN: "not yet known",
}
RESULT_STYLE = {
    "CANCELLED": "green",
    "MODIFIED": "green",
    "FILLED": "cyan",
    "ENDED": "bright_black",
    "REFUSED": "red",
    "NOT_APPLIED": "yellow",
    "SKIPPED": "magenta",
    "EXPIRED": "yellow",
}

ORDER = (
    Column("order", lambda line: short(line.get("orderId")), keep=6),
    Column("leg", lambda line: str(line.get("correlationId") or ""), keep=4, least=8),
    Column("instrument", lambda line: str(line.get("instrument") or "")),
    Column("side", lambda line: side(line)),
    Column("quantity", lambda line: number(line.get("quantity")), right=True),
)
WHERE = (
    Column("broker", lambda line: str(line.get("broker") or ""), keep=7),
    Column("account", lambda line: str(line.get("account") or ""), keep=1),
)
CHANGE_COLUMNS = (
    LINE,
    *ORDER,
    Column("result", lambda line: result(line)),
    Column("state", lambda line: state(line.get("state")), keep=7),
    Column("filled", lambda line: number(line.get("filledQuantity")), keep=8, right=True),
    Column("average", lambda line: price(line.get("averagePrice")), keep=3, right=True),
    *WHERE,
    Column("reason", lambda line: Text(reason_code(line), style="red"), keep=5),
    Column("settled (IST)", lambda line: clock(line.get("settledAt")), keep=2),
)


def result(line: Json) -> Text:
    """What came of it, or that nobody can say yet."""
    word = str(line.get("result") or NOT_KNOWN)
    return Text(WORDS.get(word, word.lower()), style=RESULT_STYLE.get(word, "bold yellow"))


def counts_in_words(intent: Json) -> str:
    """ "12 cancelled, 1 filled meanwhile, 3 not yet known"."""
    counts = intent.get("counts") or {}
    known = [name for name in WORDS if counts.get(name)] + [name for name in counts if name not in WORDS]
    return ", ".join(f"{counts[name]} {WORDS.get(name, name.lower())}" for name in known) or "no order matches"


def show_changes(here: Session, intent: Json, *, about: Json | None = None) -> None:
    """The first lines as a table, what went wrong in full below it, and how many there are of each kind."""
    lines: list[Json] = intent.get("changes", [])
    total = int(intent.get("total", len(lines)))
    settled = f"{intent.get('settled')} of {total} settled"
    head = Text.assemble(
        ("intent ", "bold"), str(intent.get("intentId")), "  ", state(intent.get("status")), f"  {settled}"
    )
    parts: list[object] = [head]
    if lines:
        parts += [Text(""), grid(lines[:SHOWN], CHANGE_COLUMNS, width=here.screen.out.width)]
        if total > min(len(lines), SHOWN):
            parts.append(Text(f"… and {total - min(len(lines), SHOWN)} more lines", style="bright_black"))
    told = list(_reasons(lines[:SHOWN]))
    parts += [Text(""), *told] if told else []
    parts += [Text(""), Text(counts_in_words(intent))]
    here.screen.result({**intent, **(about or {})}, *parts)  # type: ignore[arg-type]


def _reasons(lines: Iterable[Json]) -> Iterable[Text]:
    for line in lines:
        given, work = line.get("reason"), line.get("work") or {}
        words = ""
        if isinstance(given, dict):
            words = f"{given.get('code')}: {given.get('text')}" if given.get("text") else str(given.get("code"))
        elif work.get("state") == "STUCK":
            words = (
                f"stuck in {work.get('stage')}: {work.get('error') or 'no error was recorded'}; an operator must look"
            )
        elif line.get("result") is None and line.get("toldDetail"):
            words = f"the newest call: {line['toldDetail']}"
        elif work.get("error"):
            words = f"{work.get('stage')} tries again: {work['error']}"
        if words:
            yield Text.assemble(f"{line_label(int(line.get('line', 0)), line)} ", result(line), f"  {words}")


def exit_of(intent: Json) -> Exit:
    """How a command ends that was about this intent: all of it came about, some, or none; or nobody can say yet."""
    ends = {"DONE": Exit.OK, "PARTIAL": Exit.PARTIAL, "NONE": Exit.REJECTED}
    return ends.get(str(intent.get("status")), Exit.NOT_KNOWN)
