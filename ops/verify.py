"""`coordinator verify`: what must hold of the record, looked for while the system runs."""

from __future__ import annotations

from datetime import UTC, datetime

from rich.table import Table
from rich.text import Text

from ops.bar import bar
from ops.commandline import Flag
from ops.dlq.here import desk_here
from ops.exits import Exit, Failed
from ops.operating import DEFAULTS, Options
from ops.show import IST
from ops.spans import read_span

SHOWN = 50  # breaches on the screen; the JSON document has up to a thousand


def verify(*, since: str | None = None, record_only: Flag = False, options: Options = DEFAULTS) -> Exit:
    """Prove that the record is whole: every order's events fold to its row, nothing is lost, doubled or left lying.

    It reads a few hundred orders at a time in short snapshots, changes nothing, and may run at any hour. It exits with 1
    when anything is broken, and names it.

    Args:
        since: only orders accepted since then: 2h, 3d, or a day such as 2026-11-25 (India's). Accounts' totals are always
            looked at whole.
        record_only: leave the dead-letter queues alone.
    """
    from pipeline import breaches
    from pipeline import verify as verifier

    with desk_here(options) as (screen, desk):
        moment = _moment(since, desk.now())
        with bar(screen, "verifying", 0 if moment else verifier.expected(desk)) as advance:
            verified = verifier.verify(
                desk, since=moment, queues=not record_only, told=lambda so_far: advance(so_far.seen)
            )
        found = sum(verified.counts.values())
        document = {
            "whole": not found,
            "orders": verified.orders,
            "intents": verified.intents,
            "checks": {name: verified.counts[name] for name in breaches.CHECKS},
            "breaches": [
                {"check": one.check, "subject": one.subject, "detail": one.told} for one in verified.breaches
            ],
            "told": len(verified.breaches),
            "found": found,
        }
        parts: list[Table | Text] = [_table(breaches.CHECKS, verified.counts), Text("")]
        for one in verified.breaches[:SHOWN]:
            parts.append(Text.assemble((one.check, "bold red"), f"  {one.subject}  {one.told}"))
        if found > SHOWN:
            parts.append(Text(f"… and {found - SHOWN} more; --json has up to a thousand"))
        looked = f"{verified.orders} orders and {verified.intents} intents"
        end = Text(f"{looked}: all of it holds", style="green")
        parts.append(Text(f"{looked}: {found} broken", style="bold red") if found else end)
        screen.result(document, *parts)
        return Exit.ERROR if found else Exit.OK


def _table(checks: dict[str, str], counts: dict[str, int]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    for name, holds in checks.items():
        count = counts.get(name, 0)
        table.add_row(Text(f"✗ {count}", style="bold red") if count else Text("✓", style="green"), name, holds)
    return table


def _moment(since: str | None, now: datetime) -> datetime | None:
    if since is None:
        return None
    span = read_span(since)
    if span is not None:
        return now - span
    try:
        moment = datetime.fromisoformat(since)
    except ValueError:
        raise Failed(Exit.USAGE, f"{since} is no time", mend="Such as 2h, 3d, or 2026-11-25.") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=IST)).astimezone(UTC)
