"""Crash points: named places between two steps where a test may have the process die."""

from __future__ import annotations

import os
import signal
from pathlib import Path

_WANTED = os.environ.get("CRASH_POINT")  # "name" dies at the first pass, "name:3" at the third
_NAME, _, _COUNT = (_WANTED or "").partition(":")
_FILE = os.environ.get("CRASH_FILE")  # holds a name now and then: who passes there takes the file away and dies, once
_passes = 0


def crash(point: str) -> None:
    """Die by SIGKILL here when the environment asks for it; free of cost otherwise."""
    if _FILE is not None:
        _die_once(point, Path(_FILE))
    if _WANTED is None or point != _NAME:
        return
    global _passes
    _passes += 1
    if _passes >= int(_COUNT or 1):
        os.kill(os.getpid(), signal.SIGKILL)


def _die_once(point: str, file: Path) -> None:
    try:
        if file.read_text() != point:
            return
        file.unlink()
    except FileNotFoundError:  # nobody wants a death now, or another thread was first
        return
    os.kill(os.getpid(), signal.SIGKILL)
