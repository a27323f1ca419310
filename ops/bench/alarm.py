"""A timer that keeps microseconds: event loops round theirs to whole milliseconds, which is a tenth of what we measure."""

from __future__ import annotations

import ctypes
import os

CLOCK_MONOTONIC = 1  # what time.perf_counter() reads on Linux
ABSOLUTE = 1


class _Setting(ctypes.Structure):
    """itimerspec: the interval, then the first expiry, each in seconds and nanoseconds."""

    _fields_ = (
        ("interval_s", ctypes.c_long),
        ("interval_ns", ctypes.c_long),
        ("value_s", ctypes.c_long),
        ("value_ns", ctypes.c_long),
    )


class Alarm:
    """Linux's timerfd: `fd` becomes readable at the moment that `ring_at` was given."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self.fd: int = self._libc.timerfd_create(CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")

    def ring_at(self, moment: float) -> None:
        """`moment` in seconds of time.perf_counter(); one that is past rings at once."""
        nanoseconds = max(int(moment * 1e9), 1)  # 0 would disarm it
        setting = _Setting(0, 0, nanoseconds // 1_000_000_000, nanoseconds % 1_000_000_000)
        if self._libc.timerfd_settime(self.fd, ABSOLUTE, ctypes.byref(setting), None):
            raise OSError(ctypes.get_errno(), "timerfd_settime")

    def quiet(self) -> None:
        """Take note of a ring, so that the next one shows."""
        os.read(self.fd, 8)

    def close(self) -> None:
        os.close(self.fd)
