"""What is written down anew, how often, and what is told at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import psycopg
import pytest

from domain.errors import StoreAway
from pipeline.accepting import Anew, with_tries


def writing(*ends: Exception | str) -> tuple[list[int], Callable[[], str]]:
    """Something that ends so, one time after another; and how often it was asked."""
    asked: list[int] = []
    left: Iterator[Exception | str] = iter(ends)

    def write() -> str:
        asked.append(1)
        end = next(left)
        if isinstance(end, Exception):
            raise end
        return end

    return asked, write


@pytest.mark.parametrize("passing", [psycopg.errors.LockNotAvailable(), psycopg.errors.DeadlockDetected(), Anew("cut")])
def test_what_only_the_moment_forbids_is_done_anew(passing: Exception) -> None:
    asked, write = writing(passing, passing, "written")

    assert with_tries(write, tries=3, busy="busy") == "written"
    assert len(asked) == 3


@pytest.mark.parametrize("passing", [psycopg.errors.LockNotAvailable(), Anew("cut")])
def test_after_the_last_try_it_is_safe_to_ask_again(passing: Exception) -> None:
    asked, write = writing(passing, passing, "never")

    with pytest.raises(StoreAway, match="somebody holds on to it"):
        with_tries(write, tries=2, busy="somebody holds on to it")
    assert len(asked) == 2


def test_what_time_does_not_mend_is_not_tried_again() -> None:
    asked, write = writing(psycopg.OperationalError("the server is gone"), "never")

    with pytest.raises(StoreAway):
        with_tries(write, tries=3, busy="busy")
    assert len(asked) == 1


def test_a_refusal_is_not_tried_again() -> None:
    asked, write = writing(ValueError("no"), "never")

    with pytest.raises(ValueError, match="no"):
        with_tries(write, tries=3, busy="busy")
    assert len(asked) == 1
