"""`coordinator dlq …`: orders whose stage gave up; listed, looked at, sent back, or given up for good."""

from __future__ import annotations

import dataclasses
import getpass
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Protocol

from cyclopts import Parameter
from rich.console import RenderableType
from rich.text import Text

from ops.answers import Json
from ops.exits import Ended, Exit, Failed
from ops.grid import Column, grid
from ops.operating import DEFAULTS, Options, open_desk
from ops.screen import Screen
from ops.show import moment, short, state
from ops.story import facts, timeline

if TYPE_CHECKING:
    from pipeline.desk import Desk

Yes = Annotated[bool, Parameter(negative=())]


class DeadLetters(Protocol):
    """What `pipeline.deadletters` offers; items are dataclasses or mappings."""

    def list_stuck(self, desk: Desk, stage: str | None = None) -> Sequence[Any]: ...

    def show(self, desk: Desk, order_id: str) -> Any: ...

    def requeue(self, desk: Desk, order_id: str, operator: str, reason: str) -> Any: ...

    def discard(self, desk: Desk, order_id: str, operator: str, reason: str) -> Any: ...


COLUMNS = (
    Column("order", lambda item: short(item.get("orderId"))),
    Column("stage", lambda item: str(item.get("stage"))),
    Column("since (IST)", lambda item: moment(item.get("since")), keep=5),
    Column("tries", lambda item: str(item.get("attempts", "")), keep=4, right=True),
    Column("deaths", lambda item: str(item.get("deaths", "")), keep=3, right=True),
    Column("state", lambda item: state(item.get("state")), keep=6),
    Column(
        "what", lambda item: " ".join(str(item.get(name, "")) for name in ("side", "quantity", "instrument")), keep=7
    ),
    Column("broker", lambda item: str(item.get("broker") or ""), keep=2),
)
MENDS = {
    "MAY_HAVE_BEEN_SENT": "It stays as it is until the broker's book, or a person who has read it, says what became of it.",
    "NOT_STUCK": "Only what is stuck is listed: coordinator dlq list",
    "NOT_FOUND": "coordinator dlq list",
    "STORE_UNAVAILABLE": "coordinator doctor",
}


def dlq_list(*, stage: str | None = None, options: Options = DEFAULTS) -> Exit:
    """Everything that is stuck, oldest first, with its last error.

    Args:
        stage: only what is stuck there, such as margin or dispatch.upstox.
    """
    with _letters(options) as (screen, letters, desk):
        items = [plain(item) for item in letters.list_stuck(desk, stage)]
        if not items:
            screen.result({"stuck": []}, Text("nothing is stuck", style="green"))
            return Exit.OK
        errors = [
            Text(f"{short(item.get('orderId'))}  {item.get('error') or 'no error was recorded'}") for item in items
        ]
        screen.result({"stuck": items}, grid(items, COLUMNS, width=screen.out.width), Text(""), *errors)
        return Exit.OK


def dlq_show(order_id: str, /, *, options: Options = DEFAULTS) -> Exit:
    """One stuck order: its events, its calls, its error.

    Args:
        order_id: its id, or the last characters of it as the list shows them.
    """
    with _letters(options) as (screen, letters, desk):
        document = plain(letters.show(desk, _whole(letters, desk, order_id)))
        screen.result(document, *_in_words(document))
        return Exit.OK


def dlq_requeue(order_id: str, /, *, reason: str, operator: str | None = None, options: Options = DEFAULTS) -> Exit:
    """Send a stuck order back to its stage, with a clean count of tries.

    Refused where a broker may have the order already.

    Args:
        order_id: its id, or the last characters of it as the list shows them.
        reason: why; it is recorded in the audit log.
        operator: who; the user of this machine when not given.
    """
    with _letters(options) as (screen, letters, desk):
        full_id, who = _whole(letters, desk, order_id), operator or getpass.getuser()
        stage = letters.requeue(desk, full_id, who, _given(reason))
        screen.result(
            {"orderId": full_id, "requeued": True, "stage": stage, "operator": who, "reason": reason},
            Text(f"order {full_id} goes on at {stage}; to follow: trader order explain {short(full_id)}"),
        )
        return Exit.OK


def dlq_discard(
    order_id: str, /, *, reason: str, operator: str | None = None, yes: Yes = False, options: Options = DEFAULTS
) -> Exit:
    """Give a stuck order up for good: it is rejected, and what it held of its account is freed.

    Refused where a broker may have the order already.

    Args:
        order_id: its id, or the last characters of it as the list shows them.
        reason: why; it is recorded in the audit log, and the client sees it.
        operator: who; the user of this machine when not given.
        yes: it can't be undone, and this says that you know.
    """
    with _letters(options) as (screen, letters, desk):
        full_id, who = _whole(letters, desk, order_id), operator or getpass.getuser()
        if not yes:
            raise Failed(Exit.USAGE, f"discarding order {full_id} can't be undone", mend="Say --yes if you mean it.")
        stage = letters.discard(desk, full_id, who, _given(reason))
        screen.result(
            {"orderId": full_id, "discarded": True, "stage": stage, "operator": who, "reason": reason},
            Text(f"order {full_id} is given up; it was stuck in {stage}"),
        )
        return Exit.OK


@contextmanager
def _letters(options: Options) -> Iterator[tuple[Screen, DeadLetters, Desk]]:
    """The screen, the dead letters and a desk; a refusal within is told and ends the command."""
    from domain.errors import CoordinatorError

    screen = Screen(json=options.json)
    try:
        with open_desk() as desk:
            yield screen, _offered(), desk
    except Failed as failed:
        screen.failure(failed)
        raise Ended(failed.exit_code) from None
    except CoordinatorError as error:
        screen.failure(Failed(Exit.ERROR, str(error), mend=MENDS.get(error.code, ""), code=error.code))
        raise Ended(Exit.ERROR) from None


def _offered() -> DeadLetters:
    from pipeline import deadletters

    return deadletters


def _whole(letters: DeadLetters, desk: Desk, text: str) -> str:
    """The full id of a stuck order given by the end of it; anything else is taken as it is."""
    found = [plain(item)["orderId"] for item in letters.list_stuck(desk, None)] if len(text) < 36 else []
    ends = [order_id for order_id in found if order_id.endswith(text)]
    if len(ends) > 1:
        raise Failed(Exit.USAGE, f"{len(ends)} stuck orders end in {text}", mend="Give more of the id.")
    if len(text) < 36 and not ends:
        raise Failed(Exit.ERROR, f"no stuck order ends in {text}", mend=MENDS["NOT_FOUND"], code="NOT_FOUND")
    return ends[0] if ends else text


def _given(reason: str) -> str:
    if not reason.strip():
        raise Failed(Exit.USAGE, "the reason is empty", mend="Say in a few words why, for who reads the audit log.")
    return reason.strip()


def _in_words(document: Json) -> list[RenderableType]:
    item = document.get("item", document)
    parts: list[RenderableType] = [
        Text.assemble((f"{name:<12}", "bold"), str(value)) for name, value in item.items() if value is not None
    ]
    if document.get("events"):
        parts += [Text(""), timeline(item, document["events"])]
    if document.get("attempts"):
        parts += [Text(""), Text("calls", style="bold"), *(Text(f"  {facts(call)}") for call in document["attempts"])]
    return parts


def plain(value: Any) -> Any:
    """Dataclasses, times and what is in them as JSON has it, names in camelCase."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return {_camel(name): plain(one) for name, one in fields.items()}
    if isinstance(value, dict):
        return {str(name): plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)
