from __future__ import annotations

from collections.abc import Iterator

import pytest

from .installing import installed


@pytest.fixture
def simulated() -> Iterator[None]:
    """The pipeline's modules find the simulated world below them."""
    with installed():
        yield
