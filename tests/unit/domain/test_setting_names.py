"""Settings by their outside names: changes are checked with the place of each fault, and every setting explains itself."""

from __future__ import annotations

from typing import Any

import pytest

from domain.errors import Malformed
from domain.setting_names import Changes, by_name, changed, describe, read_changes, to_outside
from domain.settings import LIMITS, Settings, UserSettings


def faults_of(document: Any, asked: Any) -> list[tuple[str, str]]:
    with pytest.raises(Malformed) as refused:
        changed(document, {}, read_changes(document, asked))
    return [(fault.pointer, fault.code) for fault in refused.value.faults]


def test_the_settings_that_are_promised_by_name_are_there() -> None:
    admin = {one.name for one in describe(Settings)}
    user = {one.name for one in describe(UserSettings)}

    assert {
        "idempotencyWindowSec",
        "maxOrdersPerBatch",
        "brokerFailoverEnabled",
        "auditLevel",
        "asyncCancelEnabled",
        "cancelPolicy",
        "maxUnsentSec",
        "readPolicy",
    } <= admin
    assert user == {"defaultBroker", "allowPartialMultiOrder", "readConsistency", "autoRetryOnNetworkFailure"}
    assert {by_name(Settings)[name].field for name in ("quantityMax", "limits.quantityMax")} == {"quantity_max"}


@pytest.mark.parametrize("document", [Settings, UserSettings])
def test_every_setting_has_a_meaning_a_range_and_a_default_that_is_in_it(document: Any) -> None:
    for one in describe(document):
        assert one.meaning.endswith("."), one.name
        assert one.range, one.name
    assert changed(document, document().model_dump(mode="json"), Changes()) == document()


def test_every_setting_is_reachable_by_its_name() -> None:
    outside = to_outside(Settings())
    limits = outside.pop("limits")
    same = {**outside, "limits": limits}

    changes = read_changes(Settings, same)

    assert set(changes.new) == set(Settings.model_fields)
    assert len(limits) == len(LIMITS)
    assert changed(Settings, {}, changes) == Settings()


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"maxOrdersPerBatch": 0}, [("/maxOrdersPerBatch", "TOO_SMALL")]),
        ({"maxOrdersPerBatch": 501}, [("/maxOrdersPerBatch", "TOO_LARGE")]),
        ({"maxOrdersPerBatch": "20"}, [("/maxOrdersPerBatch", "NOT_AN_INTEGER")]),
        ({"maxOrdersPerBatch": True}, [("/maxOrdersPerBatch", "NOT_AN_INTEGER")]),
        ({"maxOrdersPerBatch": None}, [("/maxOrdersPerBatch", "NOT_AN_INTEGER")]),
        ({"asyncCancelEnabled": 1}, [("/asyncCancelEnabled", "NOT_A_BOOLEAN")]),
        ({"placeTimeoutSec": "fast"}, [("/placeTimeoutSec", "NOT_A_NUMBER")]),
        ({"placeTimeoutSec": 10**400}, [("/placeTimeoutSec", "NOT_A_NUMBER")]),
        ({"cancelPolicy": "MAYBE"}, [("/cancelPolicy", "NOT_ONE_OF")]),
        ({"limits": {"quantityMax": -1}}, [("/limits/quantityMax", "TOO_SMALL")]),
        ({"limits": {"nonsense": 1}, "other": 2}, [("/limits/nonsense", "UNKNOWN_FIELD"), ("/other", "UNKNOWN_FIELD")]),
        ({"quantityMax": 5}, [("/quantityMax", "UNKNOWN_FIELD")]),
        ({"limits.quantityMax": 5}, [("/limits.quantityMax", "UNKNOWN_FIELD")]),
        ({"limits": {"quantityMax": 5}, "limits.quantityMax": 6}, [("/limits.quantityMax", "UNKNOWN_FIELD")]),
        ({"limits": {"limits.quantityMax": 5}}, [("/limits/limits.quantityMax", "UNKNOWN_FIELD")]),
        ({"maxUnsentSec": 99999999999999999999}, [("/maxUnsentSec", "TOO_LARGE")]),
        ({"limits": 5}, [("/limits", "NOT_AN_OBJECT")]),
        ({"limits": {"restricted": ["NSE:INFY", 5]}}, [("/limits/restricted/1", "NOT_A_STRING")]),
        ({"brokerProofSec": {"up/stox": 5}}, [("/brokerProofSec/up~1stox", "BAD_FORM")]),
        ({"readPolicy": {"positions": 1}}, [("/readPolicy/positions", "NOT_ONE_OF")]),
        ({"readPolicy": {"orders": 61}}, [("/readPolicy/orders", "TOO_LARGE")]),
        ({"reset": "maxUnsentSec"}, [("/reset", "NOT_A_LIST")]),
        ({"reset": ["maxUnsentSec", "nonsense", 5]}, [("/reset/1", "UNKNOWN_FIELD"), ("/reset/2", "UNKNOWN_FIELD")]),
        ({"maxUnsentSec": 5, "reset": ["maxUnsentSec"]}, [("/reset/0", "REPEATED")]),
        ({}, [("", "TOO_FEW")]),
        ({"limits": {}}, [("", "TOO_FEW")]),
        ([], [("", "NOT_AN_OBJECT")]),
    ],
)
def test_a_fault_is_told_with_its_place(asked: Any, expected: list[tuple[str, str]]) -> None:
    assert faults_of(Settings, asked) == expected


def test_a_limit_may_be_none_and_a_reset_takes_a_value_back() -> None:
    stored = {"quantity_max": 5, "max_unsent_s": 60}

    assert changed(Settings, stored, read_changes(Settings, {"limits": {"quantityMax": None}})).quantity_max is None
    back = changed(Settings, stored, read_changes(Settings, {"reset": ["quantityMax", "maxUnsentSec"]}))
    assert back == Settings()


def test_a_users_document_knows_no_admins_setting() -> None:
    assert faults_of(UserSettings, {"maxUnsentSec": 5}) == [("/maxUnsentSec", "UNKNOWN_FIELD")]
    assert faults_of(UserSettings, {"limits": {"quantityMax": 5}}) == [("/limits", "UNKNOWN_FIELD")]
    assert faults_of(UserSettings, {"readConsistency": "SOMETIMES"}) == [("/readConsistency", "NOT_ONE_OF")]
