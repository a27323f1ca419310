"""Claims: what can't be forgotten stays open, and hides no other error."""

from __future__ import annotations

from types import SimpleNamespace

import psycopg
import pytest

from domain.errors import StoreAway
from pipeline.claims import forget_claim


@pytest.mark.parametrize("error", [StoreAway("away"), psycopg.errors.LockNotAvailable("lock timeout")])
def test_a_claim_that_cant_be_forgotten_raises_nothing(error: Exception) -> None:
    def unit() -> None:
        raise error

    desk = SimpleNamespace(claim_store=SimpleNamespace(unit=unit))

    forget_claim(desk, 7)  # type: ignore[arg-type]
