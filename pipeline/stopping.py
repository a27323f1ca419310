"""SIGTERM and SIGINT as something that can be asked and waited for, without the two traps of `threading.Event`.

In the main thread, an event's `wait` may sleep through a signal that came just before it: the interpreter has noted it
and runs its handler when the thread wakes, which is never. And a handler that sets the event while the main thread is
inside its `wait` waits for a lock that its own thread holds.
"""

from __future__ import annotations

import os
import select
import signal
import threading
import time
from collections.abc import Sequence

USUAL = (signal.SIGTERM, signal.SIGINT)


class StopSignals:
    """Made in the main thread, which alone waits here; other threads ask `event`, or wait for it."""

    def __init__(self, numbers: Sequence[signal.Signals] = USUAL) -> None:
        self.event = threading.Event()
        self._woken, waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
        for number in numbers:
            signal.signal(number, lambda *_: self.event.set())

    def is_set(self) -> bool:
        return self.event.is_set()

    def wait(self, timeout: float | None = None) -> bool:
        """Whether one has come, at the latest after that many seconds."""
        end = None if timeout is None else time.monotonic() + timeout
        while not self.event.is_set():
            left_s = None if end is None else end - time.monotonic()
            if left_s is not None and left_s <= 0:
                break
            if select.select([self._woken], [], [], left_s)[0]:
                os.read(self._woken, 4096)
        return self.event.is_set()
