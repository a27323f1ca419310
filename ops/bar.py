"""How far a long command is: a bar on a terminal, a line now and then anywhere else."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ops.screen import Screen

TOLD_EVERY_S = 5.0  # where there is no terminal


@contextmanager
def bar(screen: Screen, what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Gives what to call with how many are done."""
    console = screen.err
    if not console.is_terminal or console.is_dumb_terminal:
        yield _lines(screen, what, total)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(what, total=total)
        yield lambda done: progress.update(task, completed=done, total=max(total, done))


def _lines(screen: Screen, what: str, total: int) -> Callable[[int], None]:
    said_at = time.monotonic()

    def tell(done: int) -> None:
        nonlocal said_at
        if time.monotonic() - said_at >= TOLD_EVERY_S:
            said_at = time.monotonic()
            screen.note(f"{what}: {done} of {max(total, done)}")

    return tell
