from __future__ import annotations

from ops.bench.percentiles import percentiles


def test_a_percentile_is_a_value_that_was_measured():
    ranked = percentiles(float(value) for value in range(100, 0, -1))

    assert (ranked["p50"], ranked["p99"], ranked["max"], ranked["count"]) == (50.0, 99.0, 100.0, 100)


def test_one_value_is_every_percentile():
    assert set(percentiles([7.0]).values()) == {7.0, 1}


def test_nothing_measured_has_no_percentiles():
    assert percentiles([]) == {}
