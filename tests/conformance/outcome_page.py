"""Writes docs/outcomes.md from the table that the tests run and from the error tables of the dialects:

.venv/bin/python tests/conformance/outcome_page.py
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from outcome_batches import BATCHES, Batch
from outcome_matrix import kinds_of
from outcome_words import BROKERS, End, Kind

from brokers.dialects import upstox_errors, zerodha
from brokers.dialects.meanings import Documented, Meaning

PAGE = Path(__file__).resolve().parents[2] / "docs" / "outcomes.md"

INTRODUCTION = """# How a broker call can end

Every call ends in one of four ways, and which one it is is decided in one place per broker: the tables in
`brokers/dialects`. [Brokers](brokers.md) says how, this page says what, row by row.

This page is written from the tables that are run: `tests/conformance/outcome_matrix.py`, in which each row is a call over
real sockets to the simulated broker, whose own book is then asked what is true, and the dialects' error tables. To write
it anew: `.venv/bin/python tests/conformance/outcome_page.py`. A test fails while it is stale.

"In the book" is what the broker may have of a new order afterwards. Where that is "nothing, or the order", both were
brought about, and looked the same from here. The same rows are run for a modification and a cancellation, where "the order"
means that it was done, and for Upstox's multi-place, where they hold for each of its lines.
"""

PROVES = {
    End.ACCEPTED: "the broker gave an order id, which is a receipt and not yet an order at the exchange",
    End.REFUSED: "the broker's own, documented no: no order lives",
    End.NOT_SENT: "no byte of the request left this process",
    End.BUSY: "the documented answer to too many calls: not taken",
    End.LOGGED_OUT: "the documented answer to a dead session: not taken",
    End.UNKNOWN: "nothing",
}
NEXT = {
    End.ACCEPTED: "is SUBMITTED under that id, and is followed in the broker's book",
    End.REFUSED: "is REJECTED as `BROKER_REFUSED`, with the broker's code and words; what it had blocked is freed",
    End.NOT_SENT: "goes back and is sent again until `sendBefore`, or goes to another broker where that is allowed",
    End.BUSY: "is sent again after the wait, until `sendBefore`, to the same broker",
    End.LOGGED_OUT: "is sent again when its account is logged in again, until `sendBefore`, or goes to another broker",
    End.UNKNOWN: "is UNKNOWN: it keeps what it has blocked, is looked for by its tag, and is never sent again blindly",
}
SHORTLY = {
    End.ACCEPTED: "SUBMITTED",
    End.REFUSED: "REJECTED",
    End.NOT_SENT: "sent again, or elsewhere",
    End.BUSY: "sent again after the wait",
    End.LOGGED_OUT: "sent again after the next login, or elsewhere",
    End.UNKNOWN: "looked for by its tag",
}
MEANS = {
    Meaning.REFUSED: End.REFUSED.value,
    Meaning.BUSY: End.BUSY.value,
    Meaning.LOGGED_OUT: End.LOGGED_OUT.value,
    Meaning.NOTHING: End.UNKNOWN.value,
}
ERRORS: Mapping[str, Mapping[str, Mapping[str, Documented]]] = {
    "upstox": {
        "place": upstox_errors.PLACE_ERRORS,
        "multi-place": upstox_errors.MULTI_PLACE_ERRORS,
        "modify": upstox_errors.MODIFY_ERRORS,
        "cancel": upstox_errors.CANCEL_ERRORS,
        "read": upstox_errors.READ_ERRORS,
    },
    "zerodha": {
        call: {f"{status} {kind}": documented for (status, kind), documented in table.items()}
        for call, table in (
            ("place", zerodha.PLACE_ERRORS),
            ("modify", zerodha.MODIFY_ERRORS),
            ("cancel", zerodha.CANCEL_ERRORS),
            ("read", zerodha.READ_ERRORS),
        )
    },
}


def page() -> str:
    parts = [INTRODUCTION, *_what_follows()]
    for broker in BROKERS:
        parts += [f"\n## {broker.capitalize()}\n", *_kinds(kinds_of(broker))]
        if broker == "upstox":
            parts += ["\n### Lines of one multi-place that end differently\n", *_batches(BATCHES)]
        parts += ["\n### Its documented errors\n", *_errors(ERRORS[broker])]
    return "\n".join(parts) + "\n"


def _what_follows() -> Iterator[str]:
    yield from _table(
        ("Outcome", "What it proves", "A new order"), ((end.value, PROVES[end], NEXT[end]) for end in End)
    )
    yield "\nA cancellation may be asked for again once the book has been read; a modification whose end is Unknown never blindly."


def _kinds(kinds: Iterable[Kind]) -> Iterator[str]:
    rows = (
        (kind.name, kind.wire, ", or ".join(sorted({way.book for way in kind.ways})), kind.end.value, SHORTLY[kind.end])
        for kind in kinds
    )
    yield from _table(("Kind", "On the wire", "In the book", "Outcome", "Then"), rows)


def _batches(batches: Iterable[Batch]) -> Iterator[str]:
    rows = ((batch.name, batch.wire, *(end.value for end in batch.ends)) for batch in batches)
    yield from _table(("Kind", "On the wire", "Line 1", "Line 2", "Line 3"), rows)


def _errors(tables: Mapping[str, Mapping[str, Documented]]) -> Iterator[str]:
    """One row for each code, with the calls for which it is documented."""
    codes = dict.fromkeys(code for table in tables.values() for code in table)
    rows = []
    for code in codes:
        calls = [call for call, table in tables.items() if code in table]
        documented = tables[calls[0]][code]
        rows.append(
            (
                f"`{code}`",
                documented.words,
                "any" if len(calls) == len(tables) else ", ".join(calls),
                MEANS[documented.meaning],
            )
        )
    yield from _table(("Error", "It says", "Calls", "Outcome"), rows)
    yield "\nAny other error, any of these in another call or under another status, and any whose words speak of a timeout or of"
    yield "the order book, is Unknown."


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield "|---" * len(head) + "|"
    for row in rows:
        yield f"| {' | '.join(row)} |"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
