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


class SignalPipe:
    """Wakes the main thread at any signal that has a handler, whichever thread the kernel gives it to, and whenever."""

    def __init__(self) -> None:
        self._woken, self._waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._before = signal.set_wakeup_fd(self._waker, warn_on_full_buffer=False)

    def wait(self, timeout: float | None = None) -> None:
        """For a signal since the last wait, at most so many seconds."""
        if select.select([self._woken], [], [], timeout)[0]:
            os.read(self._woken, 4096)

    def close(self) -> None:
        signal.set_wakeup_fd(self._before)
        os.close(self._woken)
        os.close(self._waker)


class StopSignals:
    """Made in the main thread, which alone waits here; other threads ask `event`, or wait for it."""

    def __init__(self, numbers: Sequence[signal.Signals] = USUAL) -> None:
        self.event = threading.Event()
        self._pipe = SignalPipe()
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
            self._pipe.wait(left_s)
        return self.event.is_set()
