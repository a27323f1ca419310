"""When a campaign rests, so that its load stays within what brokers allow an account."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from tests.chaos.allowance import Allowance

HALF_PAST = datetime(2026, 11, 26, 10, 30, tzinfo=UTC)  # 16:00 in India
MINUTE = timedelta(minutes=1)


def test_a_long_campaign_rests_until_the_next_half_hour_and_counts_anew_in_it() -> None:
    allowance = Allowance(HALF_PAST - 8 * MINUTE)

    rests = [allowance.rest_s(HALF_PAST + minutes * MINUTE) for minutes in (-1, 0, 9, 10, 29, 30, 39, 40)]

    assert rests == [0, 0, 0, 20 * 60, 60, 0, 0, 20 * 60]
