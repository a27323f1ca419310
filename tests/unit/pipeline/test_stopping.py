"""A signal that another thread was given, or that came just before the wait, is heard all the same."""

from __future__ import annotations

import subprocess
import sys

import pytest

# The main thread blocks SIGTERM, so that the kernel gives it to the other one: no call of the main thread is interrupted.
FROM_ANOTHER_THREAD = """
import os, signal, threading, time
{make}
threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM)).start()
signal.pthread_sigmask(signal.SIG_BLOCK, {{signal.SIGTERM}})
{wait}
print("heard")
"""
STOP_SIGNALS = "from pipeline.stopping import StopSignals; stop = StopSignals()"
INTERRUPTS = "from ops.interrupts import handling_interrupts as h; context = h(); asked = context.__enter__()"


@pytest.mark.parametrize(
    ("make", "wait"),
    [(STOP_SIGNALS, "assert stop.wait()"), (STOP_SIGNALS, "assert stop.wait(60)"), (INTERRUPTS, "asked.wait()")],
)
def test_a_signal_that_interrupts_no_call_of_the_main_thread_ends_the_wait(make: str, wait: str) -> None:
    script = FROM_ANOTHER_THREAD.format(make=make, wait=wait)

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=False)

    assert (done.stdout, done.stderr) == ("heard\n", "")


def test_a_wait_ends_at_its_time_and_other_signals_do_not_end_it_sooner() -> None:
    script = """
import os, signal, threading, time
from pipeline.stopping import StopSignals
signal.signal(signal.SIGUSR1, lambda *_: None)
stop = StopSignals()
threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGUSR1)).start()
began = time.monotonic()
assert not stop.wait(0.5) and not stop.is_set()
assert time.monotonic() - began >= 0.5
os.kill(os.getpid(), signal.SIGINT)
assert stop.wait() and stop.event.is_set()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=False)

    assert (done.returncode, done.stderr) == (0, "")
