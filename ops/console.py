"""One short line per thing that happened, for the person who watches the stack."""

from __future__ import annotations

import os
import sys
import threading
import time
from typing import Literal, Protocol

Mood = Literal["plain", "good", "bad"]

COLOURS: dict[Mood, str] = {"plain": "", "good": "\033[32m", "bad": "\033[31m"}


class Say(Protocol):
    """Tells a person one thing; `who` is the process or service it is about."""

    def __call__(self, who: str, what: str, mood: Mood = "plain") -> None: ...


def silence(who: str, what: str, mood: Mood = "plain") -> None:
    """Says nothing."""


class Console:
    """Says it on standard output, in colour only on a terminal; a closed output is no reason to stop."""

    def __init__(self) -> None:
        self._colours = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        self._lock = threading.Lock()
        self._is_closed = False

    def __call__(self, who: str, what: str, mood: Mood = "plain") -> None:
        if self._is_closed:
            return
        colour = COLOURS[mood] if self._colours else ""
        end = "\033[0m" if colour else ""
        with self._lock:
            try:
                print(f"{time.strftime('%H:%M:%S')}  {who:<18} {colour}{what}{end}", flush=True)
            except OSError:
                self._is_closed = True
