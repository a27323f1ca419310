"""openapi.json and the door say the same: requests made from the one, answers of the other, bounded and repeatable."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import schemathesis
from door_server import Server, a_key, let_everything_in, make_key, serving
from hypothesis import HealthCheck, settings
from schemathesis.specs.openapi.checks import missing_required_header, positive_data_acceptance
from shared_services import SharedServices

from ingress import openapi
from ingress.app import OPERATIONS
from store.users import Role


@pytest.fixture(scope="module")
def door(tmp_path_factory, database_url: str, queue_url: str, services: SharedServices) -> Iterator[Server]:
    let_everything_in(database_url)
    folder = tmp_path_factory.mktemp("door")
    with serving(folder, database_url=database_url, queue_url=queue_url, redis_url=services.redis_url) as server:
        yield server


@pytest.fixture(scope="module")
def key(door: Server) -> str:
    return make_key(door.database_url, "schemathesis", Role.ADMIN)


schema = schemathesis.openapi.from_dict(openapi.document(OPERATIONS, "test"))


@schema.parametrize()
@settings(max_examples=30, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
def test_every_answer_is_one_that_the_document_tells(case, door: Server, key: str):
    if case.meta.generation.mode.is_positive:
        say_what_a_schema_cannot(case)
    case.call_and_validate(
        base_url=door.url,
        headers={"Authorization": f"Bearer {key}"},
        excluded_checks=EXCLUDED.get(case.operation.label),
    )


# Brokers' postbacks and signals have no schema of ours: what makes no sense to the adapter, or by the user's template, is
# refused. Nor can a schema say which words of a template make an order. A modify without If-Match gets 428 (RFC 6585), which is
# not among the answers that schemathesis knows for a missing header.
EXCLUDED = {
    "PUT /v3/orders/{orderId}": [missing_required_header],
    "POST /postbacks/{broker}": [positive_data_acceptance],
    "POST /signals/{user}/{name}": [positive_data_acceptance],
    "PUT /v2/signals/{name}": [positive_data_acceptance],
}


def say_what_a_schema_cannot(case) -> None:
    """A key is used once, a cursor comes from a page, correlation ids differ; and nobody waits for stages not there."""
    if "Idempotency-Key" in case.headers:
        case.headers.update(a_key())
    if "Prefer" in case.headers:
        case.headers["Prefer"] = "wait=0"
    case.query.pop("after", None)
    case.query.pop("wait", None)
    if not isinstance(case.body, dict):
        return
    case.body.pop("after", None)
    case.body.update({name: int(case.body[name]) for name in WHOLE if case.body.get(name) is not None})
    case.body.update({name: 1.5 for name in DECIMALS if isinstance(case.body.get(name), float | int)})
    if case.operation.path.startswith("/v2/orders/multi/cancel"):
        say_which_orders(case.body)
    if case.operation.path in SETTINGS:  # something is named, by names and brokers that are there, and the door stays open
        case.body = SETTINGS[case.operation.path]
    if case.operation.path == "/v2/positions/square-off":
        case.body = {"all": True, "dryRun": case.body.get("dryRun", False)}
    if case.operation.path == "/v3/orders/{orderId}":
        case.body["quantity"] = 5  # something is named
    if "orders" in case.body:
        case.body["orders"] = case.body["orders"][:20]
        for number, line in enumerate(case.body["orders"]):
            line["correlationId"] = f"leg-{number}"
            line.pop("after", None)  # it names another line
            line.update({name: 1.5 for name in DECIMALS if isinstance(line.get(name), float | int)})
            line["quantity"] = int(line["quantity"])
            line["disclosedQuantity"] = int(line.get("disclosedQuantity", 0))
        case.body["maxUnsentSec"] = int(case.body.get("maxUnsentSec") or 60)


def say_which_orders(body) -> None:
    """Ids that differ, or a filter that says something, and never both."""
    given = {name: value for name, value in (body.get("filter") or {}).items() if value is not None}
    ids = sorted({order_id.lower() for order_id in body.get("orderIds") or []})[:500]
    for name in ("filter", "orderIds", "at", "atSessionEnd", "lateBySec"):  # now: a time is a test of its own
        body.pop(name, None)
    if ids:
        body["orderIds"] = ids
    else:
        body["filter"] = {name: value for name, value in given.items() if name != "all"} or {"all": True}


SETTINGS = {
    "/v2/settings": {"readConsistency": "STRONG", "reset": ["defaultBroker"]},
    "/v2/admin/settings": {"dispatchTries": 9, "limits": {"openOrdersMax": None}, "reset": ["unknownAlarmSec"]},
}

# To a schema, a number has any count of decimals, and 10.0 is an integer.
DECIMALS = ("price", "triggerPrice", "marketProtection", "averagePrice")
WHOLE = ("forMinutes", "filledQuantity", "limit", "disclosedQuantity")
