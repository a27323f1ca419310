"""Operations: every one closed unless it says for whom it is open, and openapi.json says what they do."""

from __future__ import annotations

import inspect
import re

import pytest
from openapi_spec_validator import validate

from domain import errors
from ingress import openapi, parameters
from ingress.answers import OrderView
from ingress.app import OPERATIONS
from ingress.operations import EVERY_ROLE, OPERATES, PLACES, READS_ALL, op, true_or_false
from ingress.operators import there
from ingress.problems import CODES, Problem, problem_of, type_of
from readmodel.views import order_view
from store.users import Role

PUBLIC = {"/livez", "/readyz", "/version", "/metrics", "/postbacks/{broker}", "/signals/{user}/{name}"}


def test_every_path_but_the_public_ones_needs_a_key():
    assert {operation.path for operation in OPERATIONS if operation.roles is None} == PUBLIC
    assert all(operation.roles for operation in OPERATIONS if operation.roles is not None)


def test_an_operation_that_names_no_role_is_closed():
    @op("GET", "/x", tag="x", answers={})
    async def forgotten(door, call):
        """Forgot its roles."""

    assert forgotten.roles == frozenset()


def test_only_traders_and_admins_place():
    writes = {operation.name: operation.roles for operation in OPERATIONS if operation.method != "GET"}
    acts = ("requeue", "park", "unpark", "settle", "discard")
    operated = {name: OPERATES for name in (*(f"{act}_dead_letter" for act in acts), "drain_dead_letters")}
    placing = ["place_multi", "preview_orders", "modify_order", "cancel_multi", "preview_cancel", "cancel_order"]
    placing += ["remove_schedule", "square_off", "change_settings", "define_signal", "remove_signal", "rotate_signal"]
    switching = {"turn_switch": PLACES | OPERATES, "change_admin_settings": frozenset({Role.ADMIN})}
    # A postback is a hint, and changes nothing; a signal carries the secret of its strategy.
    public = {"hear_postback": None, "hear_signal": None}
    assert writes == {**dict.fromkeys(placing, PLACES), **public, **operated, **switching}
    assert {Role.OPERATOR, Role.ADMIN} == OPERATES
    assert {Role.TRADER, Role.ADMIN} == PLACES
    assert Role.TRADER not in READS_ALL
    assert frozenset(Role) == EVERY_ROLE


def test_the_document_is_valid_openapi():
    validate(openapi.document(OPERATIONS, "1"))


def test_true_or_false_is_said_in_these_words_only():
    assert (true_or_false("true"), true_or_false("false")) == (True, False)
    for text in ("True", "1", "", "yes", "true "):
        with pytest.raises(ValueError, match="true or false is wanted"):
            true_or_false(text)


def test_a_door_without_a_desk_is_our_mistake():
    with pytest.raises(TypeError):
        there(None)


def test_operation_names_are_unique():
    names = [operation.name for operation in OPERATIONS]
    assert len(set(names)) == len(names)


def test_the_document_tells_every_problem_with_its_code():
    document = openapi.document(OPERATIONS, "1")
    place = document["paths"]["/v2/orders/multi"]["post"]["responses"]
    examples = {
        code
        for answer in place.values()
        for code in answer["content"].get("application/problem+json", {}).get("examples", {})
    }
    assert {
        "IDEMPOTENCY_KEY_MISSING", "IDEMPOTENCY_KEY_INVALID", "IDEMPOTENCY_KEY_REUSED", "IDEMPOTENCY_KEY_SPENT",
        "MALFORMED_JSON", "MALFORMED", "DUPLICATE_FIELD", "BODY_TOO_LARGE", "NOT_JSON", "NOT_AUTHENTICATED",
        "NOT_ALLOWED", "RATE_LIMITED", "OVERLOADED", "STORE_UNAVAILABLE", "BAD_PARAMETER", "UNKNOWN_PARAMETER",
        "BAD_REQUEST",
    } == examples  # fmt: skip


def test_views_have_the_fields_their_models_promise():
    fields = {field.alias or name for name, field in OrderView.model_fields.items()}
    told = set(re.findall(r'^        "(\w+)":', inspect.getsource(order_view), re.MULTILINE))
    assert told == fields


@pytest.mark.parametrize(
    "error",
    [
        errors.Malformed((errors.Fault("/a", "X", "y"),)),
        errors.NotAuthenticated("x"),
        errors.NotAllowed("x"),
        errors.NotFound("order", "1"),
        errors.KeyReused("x"),
        errors.KeySpent("intent-1"),
        errors.StaleVersion("1", expected=1, found=2),
        errors.Overloaded("x", retry_after_s=3),
        errors.TooManyRequests("x"),
        errors.StoreAway("x"),
        Problem("NOT_JSON", "x"),
    ],
)
def test_every_error_of_ours_is_a_problem_with_its_own_code(error):
    problem = problem_of(error)

    assert problem is not None
    assert problem.code == error.code
    assert problem.code in CODES
    if isinstance(error, errors.Busy):
        assert problem.headers["Retry-After"] == str(error.retry_after_s)


def test_every_code_of_the_error_tree_is_known_to_the_door():
    def leaves(kind):
        below = kind.__subclasses__()
        return [leaf for child in below for leaf in leaves(child)] if below else [kind]

    assert {kind.code for kind in leaves(errors.CoordinatorError)} <= set(CODES)


def test_a_defect_is_no_problem_of_the_clients():
    assert problem_of(ZeroDivisionError("x")) is None


def test_a_problems_type_is_made_from_its_code():
    assert type_of("IDEMPOTENCY_KEY_SPENT") == "/problems/idempotency-key-spent"


@pytest.mark.parametrize("text", ["", "x", "123", "0" * 32, "{00000000-0000-0000-0000-000000000000}", "é" * 36])
def test_what_is_no_id_names_nothing(text):
    with pytest.raises(errors.NotFound) as refused:
        parameters.id_in_path(text, "order")
    assert text == "" or text not in str(refused.value)


def test_an_id_is_read_in_either_case():
    assert parameters.id_in_path("01A20457-A5B4-73BF-A61B-8B7CA3EE4636", "order").startswith("01a20457-")
