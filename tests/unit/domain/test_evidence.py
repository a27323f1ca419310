"""What reads of a book prove: found is found, absent takes two clean reads, and a day's end proves nothing."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.evidence import APART, LOOKS_S, SEEN, Search, search, weigh

ASKED = datetime(2026, 11, 25, 5, 0, tzinfo=UTC)  # 10:30 in India
ENDED = ASKED + timedelta(seconds=10)
PROOF = timedelta(seconds=60)
PROVES_FROM = ENDED + PROOF
TAG = "OCABCDEFGHIJKLMNOPQ"
NOTHING: frozenset[str] = frozenset()


def a_search(**terms: Any) -> Search:
    begun = search("o1", "A1", 1, asked_at=ASKED, ended_at=ENDED, proof=PROOF, now=ENDED)
    return replace(begun, **terms)


def read(searched: Search, began: datetime, *, took_s: float = 0.2, shown: frozenset[str] = NOTHING) -> Search:
    return weigh(searched, TAG, shown=shown, began=began, ended=began + timedelta(seconds=took_s))


def test_two_reads_a_while_apart_after_the_proof_time_prove_an_absence():
    once = read(a_search(), PROVES_FROM)
    twice = read(once, PROVES_FROM + APART)

    assert (once.clean_reads, once.is_absent) == (1, False)
    assert (twice.clean_reads, twice.is_absent) == (2, True)


def test_a_read_that_began_before_the_proof_time_counts_for_nothing_however_long_it_took():
    early = PROVES_FROM - timedelta(microseconds=1)

    assert read(a_search(), early, took_s=30).clean_reads == 0
    assert read(a_search(), PROVES_FROM, took_s=30).clean_reads == 1


def test_reads_that_follow_each_other_at_once_are_one_read():
    once = read(a_search(), PROVES_FROM)
    again = read(once, PROVES_FROM + APART - timedelta(microseconds=1))

    assert again.clean_reads == 1
    assert read(again, PROVES_FROM + APART).is_absent


def test_what_was_seen_once_is_never_proven_absent():
    once = read(a_search(), PROVES_FROM)
    seen = read(once, PROVES_FROM + APART, shown=frozenset({TAG}))
    after = read(seen, PROVES_FROM + 2 * APART)

    assert (seen.clean_reads, after.clean_reads) == (SEEN, SEEN)
    assert not read(after, PROVES_FROM + 3 * APART).is_absent


@pytest.mark.parametrize(
    ("asked", "began"),
    [
        ("2026-11-25T23:55:00+05:30", "2026-11-26T00:00:00+05:30"),  # the book was emptied in between
        ("2026-11-25T10:00:00+05:30", "2026-11-26T10:00:00+05:30"),
        ("2026-11-24T23:59:59+05:30", "2026-11-25T06:00:00+05:30"),
    ],
)
def test_the_book_of_another_day_proves_nothing(asked: str, began: str):
    asked_at = datetime.fromisoformat(asked)
    searched = a_search(asked_at=asked_at, proof_from=asked_at + timedelta(seconds=70))

    first = read(searched, datetime.fromisoformat(began))
    assert read(first, first.next_at + timedelta(minutes=5)).clean_reads == 0


def test_a_read_over_midnight_proves_nothing():
    asked_at = datetime.fromisoformat("2026-11-25T23:50:00+05:30")
    searched = a_search(asked_at=asked_at, proof_from=asked_at + timedelta(seconds=70))

    assert read(searched, datetime.fromisoformat("2026-11-25T23:59:59.9+05:30")).clean_reads == 0


def test_looks_grow_apart_but_none_misses_the_moment_from_which_absence_can_be_proven():
    searched, waits = a_search(proof_from=ENDED + timedelta(hours=1)), []
    for _ in range(12):
        began = searched.next_at
        searched = read(searched, began, took_s=0)
        waits.append((searched.next_at - began).total_seconds())

    assert waits == [*LOOKS_S[1:], *[LOOKS_S[-1]] * 5]
    near = read(a_search(proof_from=ENDED + timedelta(seconds=2)), ENDED + timedelta(seconds=1), took_s=0)
    assert near.next_at == near.proof_from


@given(st.lists(st.tuples(st.integers(0, 200_000), st.booleans(), st.integers(0, 20_000)), max_size=30))
def test_nothing_is_proven_absent_that_was_seen_after_the_proof_time(reads: list[tuple[int, bool, int]]):
    """However reads come: two clean ones, apart, and no sight of it ever before, or there is no proof."""
    searched, counted, was_seen = a_search(), [], False
    for after_ms, stands, took_ms in sorted(reads):
        began = ASKED + timedelta(milliseconds=after_ms)
        searched = read(searched, began, took_s=took_ms / 1000, shown=frozenset({TAG} if stands else ()))
        was_seen = was_seen or stands
        if was_seen:
            counted = []
        elif began >= PROVES_FROM and (not counted or began - counted[-1] >= APART):
            counted.append(began)
        assert searched.is_absent == (len(counted) >= 2)
        assert searched.next_at > began
