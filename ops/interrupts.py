"""Turns the signals that mean "stop" into an exception in the main thread, or into a wait that ends."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupted(BaseException):
    """Somebody asked us to stop; not an error, so nothing that catches errors may hold it up."""


class Interrupts:
    """What has been asked so far. While `raising` is on, a signal interrupts whatever the main thread does."""

    def __init__(self) -> None:
        self._asked = False
        self._woken, self.waker = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self.waker, False)
        self.raising = True

    def handle(self, number: int, frame: FrameType | None) -> None:
        first, self._asked = not self._asked, True
        if first and self.raising:
            raise Interrupted(signal.Signals(number).name)

    def wait(self) -> None:
        """Sleep until somebody asks; also one who asked just before (see pipeline/stopping.py) is heard."""
        self.raising = False
        while not self._asked:
            os.read(self._woken, 4096)

    def close(self) -> None:
        os.close(self._woken)
        os.close(self.waker)


@contextmanager
def handling_interrupts() -> Iterator[Interrupts]:
    """SIGINT, SIGTERM and SIGHUP stop us, also where a shell's `&` has left SIGINT ignored; nohup's SIGHUP stays so."""
    interrupts = Interrupts()
    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    woken_before = signal.set_wakeup_fd(interrupts.waker, warn_on_full_buffer=False)
    before = {number: signal.signal(number, interrupts.handle) for number in numbers}
    try:
        yield interrupts
    finally:
        signal.set_wakeup_fd(woken_before)
        interrupts.close()
        for number, handler in before.items():
            signal.signal(number, handler)
