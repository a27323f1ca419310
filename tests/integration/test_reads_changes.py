"""Intents that modify or cancel, against a real record: every line once and true, and how far the whole is."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from record_rows import a_cancel, a_change, a_user, an_intent, an_order, at_once
from sqlalchemy import Connection

from domain.ids import new_id
from ingress import answers
from readmodel import changes, queries
from readmodel.asking import Scope
from store.unit import Store


@pytest.fixture(scope="module")
def store(database_url: str) -> Iterator[Store]:
    store = Store(database_url, name="test", size=2, by_key=False)
    yield store
    store.close()


@pytest.fixture
def record(store: Store) -> Iterator[Connection]:
    """A transaction that is never committed: each test has the record to itself."""
    with store.engine.connect() as connection:
        yield connection
        connection.rollback()


def shown(record: Connection, scope: Scope, intent_id: str, *, limit: int = 100, after: int | None = None):
    view = changes.changes_intent(record, scope, intent_id, limit=limit, after=after)
    if view is not None:
        answers.IntentView.model_validate(view)
    return view


def test_lines_that_were_answered_at_once_stand_among_the_others_in_their_places(record: Connection):
    ada = a_user(record, "ada")
    live, ended, stranger = an_order(record, ada), an_order(record, ada, state="FILLED", filled_quantity=10), new_id()
    answer = [at_once(0, stranger, "NOT_FOUND"), at_once(2, ended, "ALREADY_ENDED", state="FILLED")]
    intent_id = a_cancel(record, ada, answer={"matched": 1, "answered": answer})
    a_change(record, live, intent_id, 1)

    view = shown(record, ada, intent_id)

    told = [(line["line"], line["orderId"], line["result"], line["state"]) for line in view["changes"]]
    assert told == [(0, stranger, "NOT_FOUND", None), (1, live, None, "OPEN"), (2, ended, "ALREADY_ENDED", "FILLED")]
    assert (view["status"], view["settled"], view["total"]) == ("RUNNING", 2, 3)
    assert view["counts"] == {"ALREADY_ENDED": 1, "NOT_FOUND": 1, "NOT_KNOWN": 1}
    assert view["changes"][1]["work"]["stage"] == "cancel"
    assert view["changes"][0]["reason"]["text"] == "there is no such order that this key may see"


def test_ten_thousand_lines_are_read_page_by_page_each_once(record: Connection):
    ada = a_user(record, "ada")
    answer = [at_once(line, new_id(), "NOT_FOUND") for line in range(0, 40, 2)]
    intent_id = a_cancel(record, ada, answer={"matched": 20, "answered": answer})
    for line in range(1, 40, 2):
        a_change(record, an_order(record, ada), intent_id, line)
    seen, after = [], None
    while True:
        page = shown(record, ada, intent_id, limit=7, after=after)
        seen += [line["line"] for line in page["changes"]]
        if page["next"] is None:
            break
        after = int(page["next"])

    assert seen == list(range(40))


@pytest.mark.parametrize(
    ("results", "status"),
    [
        (["CANCELLED", "CANCELLED"], "DONE"),
        (["CANCELLED", "FILLED"], "PARTIAL"),
        (["FILLED", "REFUSED"], "NONE"),
        (["CANCELLED", None], "RUNNING"),
        ([], "DONE"),
    ],
)
def test_an_intent_says_whether_all_some_or_none_came_about(record: Connection, results, status):
    ada = a_user(record, "ada")
    intent_id = a_cancel(record, ada)
    for line, result in enumerate(results):
        a_change(record, an_order(record, ada), intent_id, line, result=result)

    assert shown(record, ada, intent_id)["status"] == status


def test_a_soft_line_is_settled_when_it_is_marked_and_not_called_cancelled(record: Connection):
    ada = a_user(record, "ada")
    intent_id = a_cancel(record, ada)
    a_change(record, an_order(record, ada), intent_id, 0, wanted={"mode": "SOFT"})

    view = shown(record, ada, intent_id)

    assert (view["status"], view["settled"], view["counts"]) == ("MARKED", 1, {"NOT_KNOWN": 1})
    assert changes.waited_for(record, [intent_id]) == set()


def test_what_another_intent_cancels_already_is_told_as_that_one_ends(record: Connection):
    ada = a_user(record, "ada")
    order_id, first = an_order(record, ada), a_cancel(record, ada)
    a_change(record, order_id, first, 0)
    answer = [at_once(0, order_id, "ALREADY_CANCELLING", state="OPEN", intent_id=first)]
    second = a_cancel(record, ada, answer={"matched": 0, "answered": answer})

    view = shown(record, ada, second)

    assert (view["status"], view["changes"][0]["result"]) == ("RUNNING", None)
    assert view["changes"][0]["reason"] == {
        "code": "ALREADY_CANCELLING",
        "text": f"intent {first} is cancelling it already",
    }
    assert changes.waited_for(record, [first, second]) == {first, second}
    record.exec_driver_sql("update changes set result = 'CANCELLED', settled_at = asked_at")
    assert (shown(record, ada, second)["status"], changes.waited_for(record, [first, second])) == ("DONE", set())


def test_slices_are_no_lines_of_their_own_and_are_waited_for(record: Connection):
    ada = a_user(record, "ada")
    parent = an_order(record, ada, slices=2)
    intent_id = a_cancel(record, ada)
    a_change(record, parent, intent_id, 0, result="CANCELLED")
    for result in ("CANCELLED", None):
        a_change(record, an_order(record, ada, parent_id=parent), intent_id, 0, result=result)

    view = shown(record, ada, intent_id, limit=1)

    assert [line["orderId"] for line in view["changes"]] == [parent]
    assert (view["total"], view["counts"], view["next"]) == (1, {"CANCELLED": 1}, None)
    assert changes.waited_for(record, [intent_id]) == {intent_id}


def test_an_order_that_was_cancelled_before_is_no_failure(record: Connection):
    ada = a_user(record, "ada")
    order_id = an_order(record, ada, state="CANCELLED")
    answer = [at_once(0, order_id, "ALREADY_ENDED", state="CANCELLED")]

    assert shown(record, ada, a_cancel(record, ada, answer={"matched": 0, "answered": answer}))["status"] == "DONE"


def test_nobody_sees_anothers_changes_nor_how_a_strangers_order_stands(record: Connection):
    ada, eve = a_user(record, "ada"), a_user(record, "eve")
    order_id = an_order(record, ada)
    of_ada = a_cancel(record, ada)
    a_change(record, order_id, of_ada, 0)
    of_eve = a_cancel(record, eve, answer={"matched": 0, "answered": [at_once(0, order_id, "NOT_FOUND")]})

    assert shown(record, eve, of_ada) is None
    assert shown(record, Scope(None), of_ada) is not None
    line = shown(record, eve, of_eve)["changes"][0]
    assert {line[name] for name in ("state", "instrument", "correlationId", "filledQuantity", "account")} == {None}


def test_intents_of_all_kinds_are_listed_with_their_figures(record: Connection):
    ada = a_user(record, "ada")
    placed, lines = an_intent(record, ada, "OPEN")
    cancel, modify = a_cancel(record, ada), a_cancel(record, ada, kind="MODIFY")
    a_change(record, lines[0], cancel, 0, result="CANCELLED")
    a_change(record, lines[0], modify, 0, seq=2, kind="MODIFY", result="NOT_APPLIED", wanted={"quantity": 5})

    rows = queries.intent_page(record, ada, limit=10, after=None).rows

    assert [(row["intentId"], row["kind"], row["status"]) for row in rows] == [
        (modify, "MODIFY", "NONE"),
        (cancel, "CANCEL", "DONE"),
        (placed, "PLACE", "DONE"),
    ]
    answers.IntentPage.model_validate({"intents": rows, "next": None})


def test_an_order_shows_its_changes_that_are_under_way_and_no_others(record: Connection):
    ada = a_user(record, "ada")
    order_id = an_order(record, ada, changing=1)
    modify, cancel = a_cancel(record, ada, kind="MODIFY"), a_cancel(record, ada)
    a_change(record, order_id, modify, 0, kind="MODIFY", result="MODIFIED", wanted={"order_type": "SL", "price": "1.5"})
    a_change(record, order_id, cancel, 0, seq=2, told="ACCEPTED")

    (undone,) = changes.undone_of(record, order_id)

    assert (undone["kind"], undone["intentId"], undone["told"]) == ("CANCEL", cancel, "ACCEPTED")
    answers.OrderDetail.model_validate({**queries.order(record, ada, order_id), "changes": [undone]})
    assert shown(record, ada, modify)["changes"][0]["wanted"] == {"orderType": "SL", "price": "1.5"}
