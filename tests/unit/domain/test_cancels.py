"""The form of a cancel request: what it means is said, never implied."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from pydantic import ValidationError

from domain.cancels import URGED_BY, CancelMode, CancelPolicy, CancelRequest, check, is_urged
from domain.errors import Malformed

ID = "01234567-89ab-7def-8000-0000000000aa"


def ids(count: int) -> list[str]:
    return [f"01234567-89ab-7def-8000-{number:012x}" for number in range(count)]


def faults(asked: Mapping[str, object]) -> list[tuple[str, str]]:
    with pytest.raises(Malformed) as refused:
        check(CancelRequest.model_validate(asked))
    return [(fault.pointer, fault.code) for fault in refused.value.faults]


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({}, [("/orderIds", "REQUIRED")]),
        ({"mode": "SOFT"}, [("/orderIds", "REQUIRED")]),
        ({"orderIds": [ID], "filter": {"tag": "a"}}, [("/filter", "CONTRADICTS")]),
        ({"filter": {}}, [("/filter", "EMPTY_FILTER")]),
        ({"filter": {"tag": None}}, [("/filter", "EMPTY_FILTER")]),
        ({"filter": {"all": True, "tag": "a"}}, [("/filter/all", "CONTRADICTS")]),
        ({"orderIds": ids(10_001)}, [("/orderIds/10000", "TOO_MANY")]),
        ({"orderIds": ids(501), "policy": "FAIL_FAST"}, [("/orderIds/500", "TOO_MANY")]),
        ({"orderIds": [ID, ID.upper(), ID]}, [("/orderIds/1", "REPEATED"), ("/orderIds/2", "REPEATED")]),
    ],
)
def test_what_is_wrong_is_told_with_its_place(asked: Mapping[str, object], told: list[tuple[str, str]]) -> None:
    assert faults(asked) == told


@pytest.mark.parametrize(
    "asked",
    [
        {"orderIds": []},
        {"orderIds": ["7"]},
        {"orderIds": [ID], "orderId": ID},
        {"filter": {"all": False}},
        {"filter": {"colour": "red"}},
        {"orderIds": [ID], "mode": "MEDIUM"},
        {"orderIds": [ID], "policy": "ALL_OR_NONE"},
    ],
)
def test_what_no_field_can_hold_is_refused(asked: Mapping[str, object]) -> None:
    with pytest.raises(ValidationError):
        CancelRequest.model_validate(asked)


@pytest.mark.parametrize(
    "asked",
    [
        {"orderIds": ids(10_000)},
        {"orderIds": ids(500), "policy": "FAIL_FAST"},
        {"filter": {"all": True}},
        {"filter": {"broker": "UPSTOX", "segment": "FO", "intentId": ID}, "mode": "SOFT"},
    ],
)
def test_what_is_meant_is_taken(asked: Mapping[str, object]) -> None:
    request = CancelRequest.model_validate(asked)

    assert check(request) is request


@pytest.mark.parametrize(
    ("under_way", "later", "line", "urged"),
    [
        (("SOFT", "BEST_EFFORT"), ("HARD", "BEST_EFFORT"), 3, True),
        (("SOFT", "BEST_EFFORT"), ("HARD", "FAIL_FAST"), 3, True),
        (("SOFT", "BEST_EFFORT"), ("SOFT", "BEST_EFFORT"), 0, False),
        (("HARD", "BEST_EFFORT"), ("HARD", "BEST_EFFORT"), 0, False),
        (("HARD", "FAIL_FAST"), ("HARD", "BEST_EFFORT"), 3, True),
        (("HARD", "FAIL_FAST"), ("HARD", "FAIL_FAST"), 0, True),
        (("HARD", "FAIL_FAST"), ("HARD", "FAIL_FAST"), 1, False),
        (("SOFT", "FAIL_FAST"), ("HARD", "FAIL_FAST"), 1, False),
        (("HARD", "FAIL_FAST"), ("SOFT", "BEST_EFFORT"), 0, False),
    ],
)
def test_a_cancel_is_urged_by_whoever_would_wait_for_less(
    under_way: tuple[str, str], later: tuple[str, str], line: int, urged: bool
) -> None:
    wanted = dict(zip(("mode", "policy"), under_way, strict=True))
    mode, policy = CancelMode(later[0]), CancelPolicy(later[1])

    assert is_urged(wanted, mode, policy, line) is urged
    assert not is_urged({**wanted, URGED_BY: ID}, mode, policy, line), "once is enough"
