"""`coordinator doctor`: looks at everything the coordinator stands on, and says what is wrong and how to mend it."""

from __future__ import annotations

from collections.abc import Iterator

from rich.text import Text

from ops.checkup.finding import Finding, Level, is_well
from ops.exits import Exit
from ops.operating import DEFAULTS, Options
from ops.screen import Screen
from ops.surroundings import Surroundings, look_around

STYLE = {Level.OK: "green", Level.WARN: "yellow", Level.FAIL: "bold red"}


def doctor(*, options: Options = DEFAULTS) -> Exit:
    """Look at Python, settings, database, queue, Redis, clocks, disk and processes; say what to mend.

    Exits with 1 when anything fails; warnings alone exit with 0.
    """
    screen = Screen(json=options.json)
    findings = []
    for finding in examine(look_around()):
        findings.append(finding)
        if not options.json:
            screen.out.print(_line(finding), highlight=False)
    if options.json:
        screen.result({"healthy": is_well(findings), "checks": [finding.to_json() for finding in findings]})
    return Exit.OK if is_well(findings) else Exit.ERROR


def examine(around: Surroundings) -> Iterator[Finding]:
    """Every finding, as soon as it is made; what isn't configured is told once and not looked for."""
    from ops.checkup.database import brokers_in_use, check_database
    from ops.checkup.machine import check_machine
    from ops.checkup.queue import check_queue
    from ops.checkup.redis import check_redis

    yield from check_machine(around)
    if around.database_url:
        yield from check_database(around.database_url)
    if around.queue_url:
        yield from check_queue(around.queue_url, brokers_in_use(around.database_url) if around.database_url else ())
    if around.redis_url:
        yield from check_redis(around.redis_url)


def _line(finding: Finding) -> Text:
    mend = f"\n{'':<20}→ {finding.mend}" if finding.mend else ""
    return Text.assemble((f"{finding.level:<5}", STYLE[finding.level]), f" {finding.name:<13} {finding.told}", mend)
