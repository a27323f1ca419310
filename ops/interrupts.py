"""Turns the signals that mean "stop" into an exception in the main thread, or into a wait that ends."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from pipeline.stopping import SignalPipe


class Interrupted(BaseException):
    """Somebody asked us to stop; not an error, so nothing that catches errors may hold it up."""


class Interrupts:
    """What has been asked so far. While `raising` is on, a signal interrupts whatever the main thread does."""

    def __init__(self) -> None:
        self._asked = False
        self._pipe = SignalPipe()
        self.raising = True

    def handle(self, number: int, frame: FrameType | None) -> None:
        first, self._asked = not self._asked, True
        if first and self.raising:
            raise Interrupted(signal.Signals(number).name)

    def wait(self) -> None:
        """Sleep until somebody asks; also one who asked just before (see pipeline/stopping.py) is heard."""
        self.raising = False
        while not self._asked:
            self._pipe.wait()

    def close(self) -> None:
        self._pipe.close()


@contextmanager
def handling_interrupts() -> Iterator[Interrupts]:
    """SIGINT, SIGTERM and SIGHUP stop us, also where a shell's `&` has left SIGINT ignored; nohup's SIGHUP stays so."""
    interrupts = Interrupts()
    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, interrupts.handle) for number in numbers}
    try:
        yield interrupts
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        interrupts.close()
