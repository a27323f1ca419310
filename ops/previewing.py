"""`trader order preview`: a file of orders tried out, line by line, down to the requests that brokers would get."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.text import Text

from ops.answers import Json
from ops.exits import Exit
from ops.orderfile import line_label, read_orders
from ops.session import DEFAULTS, Options, session
from ops.show import price, rupees, side, terms
from ops.story import VERDICT_SIGN, facts

OUTCOME_STYLE = {"CLEARED": "green", "REJECTED": "red", "WAITING": "magenta"}
TOLD_BELOW = frozenset({"charges", "charges_paise", "rate_card"})  # of a verdict's facts: with the charges


def order_preview(file: Path, /, *, options: Options = DEFAULTS) -> Exit:
    """Try a file of orders out: what each stage would say, margin, charges, route, and the exact requests.

    Nothing is sent, stored or reserved. Exits as place-multi does: 3 where some lines would be rejected, 4 where all would.

    Args:
        file: orders as JSON, like examples/orders.json; - is standard input.
    """
    with session(options) as here:
        orders = read_orders(file)
        here.place_of = orders.place_of
        shown = here.client.preview(orders.request)
        here.screen.result(shown, *in_words(shown))
        for note in shown.get("notes", []) if not here.screen.json else []:
            here.screen.note(note)
        return exit_of(shown.get("orders", []))


def exit_of(lines: Sequence[Json]) -> Exit:
    rejected = sum(line.get("outcome") == "REJECTED" for line in lines)
    return Exit.OK if not rejected else Exit.REJECTED if rejected == len(lines) else Exit.PARTIAL


def in_words(shown: Json) -> Iterator[Text]:
    for line in shown.get("orders", []):
        yield from _line(line)
        yield Text("")
    for call in shown.get("calls", []):
        yield from _call(call)


def _line(line: Json) -> Iterator[Text]:
    outcome = str(line.get("outcome"))
    label = line_label(int(line.get("line", 0)), line)
    what = f" {line.get('quantity')} {line.get('instrument')}  {terms(line)}  "
    yield Text.assemble((label, "bold"), "  ", side(line), what, (outcome, OUTCOME_STYLE.get(outcome, "default")))
    for stage in line.get("stages", []):
        yield from _stage(stage)
    if line.get("reason"):
        yield _row("reason", f"{line['reason']['code']}: {line['reason']['text']}", "red")
    if line.get("held"):
        yield _row("held", str(line["held"]))
    margin, charges = line.get("margin"), line.get("charges")
    if margin:
        yield _row("margin", f"{rupees(margin['required'])} of {rupees(margin['available'])} that is left ({margin['basis']})")
    if charges:
        parts = [f"{name} {price(amount)}" for name, amount in charges["lines"].items() if rupees(amount) != "₹0.00"]
        yield _row("charges", f"{rupees(charges['total'])}: {' · '.join(parts)} (rates of {charges['rateCard']})")
        for assumed in charges.get("assumed", []):
            yield _row("", assumed)
    for choice in line.get("route", []):
        name = "goes to" if choice["chosen"] else "" if choice["place"] else "not to"
        yield _row(name, f"{choice['broker']} {choice['account']}: {choice['why']}")
    slices = line.get("slices") or []
    if slices:
        yield _row("slices", ", ".join(str(part["quantity"]) for part in slices) + " (over the freeze quantity)")
    if line.get("calls"):
        yield _row("calls", ", ".join(str(number + 1) for number in line["calls"]))


def _stage(stage: Json) -> Iterator[Text]:
    if stage.get("verdict") == "NOT_REACHED":
        yield _row(str(stage["stage"]), "not asked", "bright_black")
        return
    sign, style = VERDICT_SIGN.get(str(stage.get("verdict")), ("?", "default"))
    judged = {name: of for name, of in (stage.get("facts") or {}).items() if name not in TOLD_BELOW}
    told = "; ".join([*map(str, stage.get("reasons") or []), *([str(stage["why"])] if stage.get("why") else [])])
    yield Text.assemble(f"  {stage['stage']:<10}", (sign, style), f" {told or facts(judged)}")


def _call(call: Json) -> Iterator[Text]:
    carried = ", ".join(f"{int(at['line']) + 1} ({at['quantity']})" for at in call.get("lines", []))
    yield Text.assemble((f"call {int(call['number']) + 1}", "bold"), f"  {call['broker']} {call['account']}  lines {carried}")
    request = call.get("request")
    if request is None:
        yield _row("", f"nothing is sent: {call.get('refusal')}", "red")
        return
    yield Text(f"  {request['method']} {request['url']}")
    for name, of in request.get("headers", {}).items():
        yield Text(f"  {name}: {of}", style="bright_black")
    for name in request.get("hiddenHeaders", []):
        yield Text(f"  {name}: (hidden)", style="bright_black")
    yield Text(f"  {request['body']}")
    yield Text("")


def _row(name: str, words: str, style: str = "default") -> Text:
    return Text.assemble(f"  {name:<10}  ", (words, style))
