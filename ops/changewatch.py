"""Following an intent that modifies or cancels until it is known what came of each of its lines."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ops.answers import Json, Lost, NotReached, Problem
from ops.changeshow import SHOWN, counts_in_words, exit_of, show_changes
from ops.exits import Exit
from ops.screen import Screen
from ops.session import Session

if TYPE_CHECKING:
    from ops.client import Client

LONG_POLL_S = 1  # at the server; so often the figures are new
MARKED_PAUSE_S = 1.0  # what is only marked is waited for by nobody at the server
RETRY_PAUSE_S = 1.0
PAGE = 500  # lines
TOLD_EVERY_S = 1.0  # where there is no terminal

Tell = Callable[[Json, str], None]  # the intent's figures, and a note


def watch_changes(here: Session, intent: Json, *, timeout_s: float, about: Json | None = None) -> Exit:
    """Follow it on the screen, show how it ended, and say so in the exit code."""
    intent_id = str(intent["intentId"])
    try:
        with progress_of_changes(here.screen, intent_id) as tell:
            follow_changes(here.client, intent_id, tell, timeout_s=timeout_s)
    except KeyboardInterrupt:
        here.screen.note("the waiting was ended, the changes go on")
    return end_with(here, intent_id, about=about)


def stream_changes(here: Session, intent_id: str, *, timeout_s: float) -> Exit:
    """Follow it for a program: a document a line whenever anything has changed, with the first page of its lines."""
    last: Json = {}

    def tell(intent: Json, note: str) -> None:
        nonlocal last
        if note:
            here.screen.note(note)
        elif intent != last:
            last = intent
            here.screen.row(intent)

    follow_changes(here.client, intent_id, tell, timeout_s=timeout_s, lines=PAGE)
    return exit_of(last)


def end_with(here: Session, intent_id: str, *, about: Json | None = None) -> Exit:
    """The intent as it stands, and the exit code that says so."""
    intent = whole(here.client, intent_id) if here.screen.json else here.client.intent(intent_id, limit=SHOWN)
    show_changes(here, intent, about=about)
    exit_code = exit_of(intent)
    if exit_code is Exit.NOT_KNOWN:
        here.screen.note(f"not known of every order yet; to follow on: trader intent watch {intent_id}")
    return exit_code


def follow_changes(
    client: Client,
    intent_id: str,
    tell: Tell,
    *,
    timeout_s: float,
    lines: int = 1,
    clock: Callable[[], float] = time.monotonic,
    pause: Callable[[float], None] = time.sleep,
) -> None:
    """Look until nothing is open any more, or the time is over. A lost connection ends nothing: we ask again.

    Each look tells the figures, and so many of the lines.

    Raises:
        Problem: the coordinator refuses to show the intent.
    """
    deadline, figures = clock() + timeout_s, Json()
    while True:
        left, delay = deadline - clock(), 0.0
        try:
            wait_s = max(min(LONG_POLL_S, int(left)), 0)
            figures = client.intent(intent_id, wait_s=wait_s, limit=lines)
            tell(figures, "")
            delay = MARKED_PAUSE_S if figures.get("status") == "MARKED" or not wait_s else 0.0
        except (NotReached, Lost) as error:
            tell(figures, f"{error}; the changes go on, asking again")
            delay = RETRY_PAUSE_S
        except Problem as problem:
            if not problem.is_busy:
                raise
            tell(figures, f"{problem}; asking again")
            delay = problem.retry_after_s or RETRY_PAUSE_S
        left = deadline - clock()
        if figures and figures.get("status") not in ("RUNNING", "MARKED"):
            return
        if left <= 0:
            return
        pause(min(delay, left))


@contextmanager
def progress_of_changes(screen: Screen, intent_id: str) -> Iterator[Tell]:
    """A bar with the figures on a terminal; a line whenever they have changed anywhere else."""
    console = screen.err
    if not console.is_terminal or console.is_dumb_terminal:
        yield _lines(screen)
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[told]}"),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(f"intent {intent_id[-8:]}", total=None, told="")

        def tell(intent: Json, note: str) -> None:
            counts = intent.get("counts") or {}
            known = sum(counts.values()) - counts.get("NOT_KNOWN", 0)
            told = note or (counts_in_words(intent) if intent else "")
            progress.update(task, completed=known, total=intent.get("total"), told=told)

        yield tell


def _lines(screen: Screen) -> Tell:
    said, said_at = "", 0.0

    def tell(intent: Json, note: str) -> None:
        nonlocal said, said_at
        words = note or f"{intent.get('settled')} of {intent.get('total')} settled: {counts_in_words(intent)}"
        now = time.monotonic()
        if words != said and (note or not said or now - said_at >= TOLD_EVERY_S or intent.get("status") != "RUNNING"):
            said, said_at = words, now
            screen.note(words)

    return tell


def whole(client: Client, intent_id: str) -> Json:
    """The intent with every line of it, over as many pages as it takes."""
    intent = client.intent(intent_id, limit=PAGE)
    while intent.get("next"):
        page = client.intent(intent_id, limit=PAGE, after=intent["next"])
        intent = {**page, "changes": intent["changes"] + page["changes"]}
    return intent
