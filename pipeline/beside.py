"""Beside: work on a thread of its own, which whoever asks for it doesn't wait for."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from domain.errors import StoreAway

log = logging.getLogger(__name__)


class Beside:
    """One run at a time. Asked for during a run, it is run once more, however often: that run may have begun too early."""

    def __init__(self, name: str, work: Callable[[], object]) -> None:
        self._name, self._work = name, work
        self._lock = threading.Lock()
        self._is_wanted = self._is_over = False
        self._thread: threading.Thread | None = None

    def ask(self) -> None:
        """Have it run from now on; gives at once."""
        with self._lock:
            if self._is_over:
                return
            self._is_wanted = True
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()

    def close(self, timeout_s: float = 5.0) -> None:
        """Begin no run any more, and wait a while for the one that is going on; it dies with the process after that."""
        with self._lock:
            self._is_over, self._is_wanted = True, False
            thread = self._thread
        if thread is not None:
            thread.join(timeout_s)

    def _run(self) -> None:
        while self._is_next():
            try:
                self._work()
            except StoreAway as error:
                log.warning("%s: not done now: %s", self._name, error)
            except Exception:
                log.exception("%s: failed; it is tried again when it is asked for", self._name)

    def _is_next(self) -> bool:
        with self._lock:
            is_wanted, self._is_wanted = self._is_wanted, False
            if not is_wanted:
                self._thread = None
            return is_wanted
