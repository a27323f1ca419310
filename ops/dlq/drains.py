"""`coordinator dlq drain`: one act for everything stuck that matches, with a count, a question and a bar."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Literal

from rich.text import Text

from ops.bar import bar
from ops.commandline import Flag
from ops.dlq.here import ALL, Matching, by_whom, desk_here
from ops.exits import Exit, Failed
from ops.operating import DEFAULTS, Options
from ops.screen import Screen
from ops.show import short

if TYPE_CHECKING:
    from pipeline.drain import Drained

REFUSALS_SHOWN = 20


def dlq_drain(
    what: Literal["requeue", "discard"],
    /,
    *,
    reason: str,
    matching: Matching = ALL,
    dry_run: Flag = False,
    yes: Flag = False,
    operator: str | None = None,
    options: Options = DEFAULTS,
) -> Exit:
    """Send back, or give up, everything stuck that matches; what a broker may have is refused and stays.

    It may be stopped at any time: what is done is done, the rest is as it was, and the same command goes on.

    Args:
        what: requeue or discard, as for one order.
        reason: why; it is recorded in the audit log for each order.
        dry_run: only say what would be done.
        yes: don't ask.
        operator: who; the user of this machine when not given.
    """
    from pipeline import drain, stuck

    with desk_here(options) as (screen, desk):
        by, wanted = by_whom(operator, reason), matching.wanted("STUCK")
        total = stuck.count_stuck(desk, wanted)
        if total and not dry_run and not yes:
            _ask(screen, f"{what} {total} stuck {'order' if total == 1 else 'orders'}?")
        drained = drain.Drained()

        def keep(so_far: Drained) -> None:
            nonlocal drained
            drained = so_far
            advance(so_far.seen)

        with bar(screen, "looking" if dry_run else what, total) as advance:
            try:
                drain.drain(desk, what, wanted, by, dry=dry_run, told=keep)
            except KeyboardInterrupt:
                screen.note(f"stopped after {drained.done} orders; the rest is as it was, and the same command goes on")
                raise
        document = {
            "what": what,
            "matched": total,
            "done": 0 if dry_run else drained.done,
            "wouldDo": drained.done if dry_run else None,
            "refused": drained.refused,
            "refusals": drained.refusals,
        }
        screen.result(document, *_in_words(what, drained, dry_run=dry_run))
        return Exit.ERROR if drained.refused and not dry_run else Exit.OK


def _in_words(what: str, drained: Drained, *, dry_run: bool) -> list[Text]:
    done = {"requeue": "sent back", "discard": "given up"}[what]
    would = "would be " if dry_run else ""
    parts = [Text(f"{drained.done} {would}{done}" if drained.seen else "nothing is stuck that matches")]
    if drained.refused:
        parts.append(Text(f"{drained.refused} {would}refused, and stay as they are:", style="yellow"))
        shown = drained.refusals[:REFUSALS_SHOWN]
        parts += [Text(f"  {short(one['orderId'])}  {one['code']}: {one['detail']}") for one in shown]
        if drained.refused > len(shown):
            parts.append(Text(f"  … and {drained.refused - len(shown)} more"))
    return parts


def _ask(screen: Screen, question: str) -> None:
    if screen.json or not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise Failed(Exit.USAGE, question, mend="Say --yes if you mean it, or --dry-run to see what would be done.")
    screen.err.print(f"{question} Type yes: ", end="", markup=False, highlight=False)
    if sys.stdin.readline().strip().lower() != "yes":
        raise Failed(Exit.ERROR, "nothing was done", code="NOT_CONFIRMED")
