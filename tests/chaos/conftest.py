"""The servers and the house of the engine's tests, for tests here."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS / "integration"), str(TESTS / "integration" / "engine"), str(TESTS.parent)]

from tests.integration.conftest import queue_url, services, template_database  # noqa: E402, F401
from tests.integration.engine.conftest import cleaner, furnished, house, superuser  # noqa: E402, F401


@pytest.fixture
def truth() -> object:
    """What a broker has taken."""
    from tests.chaos.toy import Truth

    return Truth()
