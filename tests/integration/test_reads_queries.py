"""The read side against a real record: whose rows are seen, page after page, and what they say."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from record_rows import AT, a_command, a_trade, a_user, an_intent, an_order
from sqlalchemy import Connection, insert

from ingress import answers
from readmodel import queries
from readmodel.asking import Scope
from readmodel.pages import read_id_cursor, read_trade_cursor
from readmodel.queries import Filters
from store.tables import accounts, order_events
from store.unit import Store

EVERYONE = Scope(None)
ALL = Filters()


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


def test_an_intent_has_its_lines_in_order_and_their_work(record: Connection):
    ada = a_user(record, "ada")
    intent_id, lines = an_intent(record, ada, "FILLED", "REJECTED", "RECEIVED")
    a_command(record, lines[2])
    a_command(record, lines[2], seq=1, kind="CANCEL", stage="route")  # work is the place's

    view = queries.intent(record, ada, intent_id)

    assert [order["orderId"] for order in view["orders"]] == lines
    assert (view["status"], view["settled"], view["total"]) == ("RUNNING", 2, 3)
    assert view["orders"][0]["work"] is None
    assert view["orders"][2]["work"] == {
        "stage": "dispatch.upstox",
        "state": "READY",
        "attempts": 2,
        "notBefore": "2026-11-23T09:15:00.000000Z",
        "error": "slow",
    }
    answers.IntentView.model_validate(view)


def test_nobody_sees_what_belongs_to_somebody_else(record: Connection):
    ada, bob = a_user(record, "ada"), a_user(record, "bob")
    intent_id, (order_id,) = an_intent(record, ada, "OPEN")
    a_trade(record, ada, order_id, 1)

    assert queries.intent(record, bob, intent_id) is None
    assert queries.order(record, bob, order_id) is None
    assert queries.history(record, bob, order_id) is None
    assert queries.trades_of(record, bob, order_id) is None
    assert queries.intent_page(record, bob, limit=10, after=None).rows == []
    assert queries.order_page(record, bob, ALL, limit=10, after=None).rows == []
    assert queries.order_page(record, bob, Filters(intent=intent_id), limit=10, after=None).rows == []
    assert queries.order_page(record, bob, Filters(parent=order_id), limit=10, after=None).rows == []
    assert queries.trade_page(record, bob, ALL, limit=10, after=None).rows == []
    assert queries.broker_views(record, bob) == []


def test_who_reads_all_sees_everyones(record: Connection):
    ada, bob = a_user(record, "ada"), a_user(record, "bob")
    seen = {an_intent(record, ada, "OPEN")[0], an_intent(record, bob, "OPEN")[0]}

    assert {row["intentId"] for row in queries.intent_page(record, EVERYONE, limit=10, after=None).rows} == seen


def test_pages_give_every_order_once_newest_first_while_others_arrive(record: Connection):
    ada = a_user(record, "ada")
    made = [an_order(record, ada) for _ in range(7)]
    seen, after = [], None
    while True:
        page = queries.order_page(record, ada, ALL, limit=3, after=after)
        seen += [row["orderId"] for row in page.rows]
        an_order(record, ada)
        if page.next is None:
            break
        after = read_id_cursor(page.next)

    assert seen == made[::-1]


def test_a_full_last_page_has_no_next(record: Connection):
    ada = a_user(record, "ada")
    for _ in range(3):
        an_order(record, ada)

    assert queries.order_page(record, ada, ALL, limit=3, after=None).next is None


def test_orders_are_narrowed_by_every_filter(record: Connection):
    ada = a_user(record, "ada")
    intent_id, lines = an_intent(record, ada, "OPEN", "FILLED")
    wanted = an_order(record, ada, instrument="NSE:TCS", wanted_broker="zerodha", wanted_account="ZR1")
    sent = an_order(record, ada, broker="upstox", account_id="UP1", wanted_broker="zerodha", state="REJECTED")

    def found(**filters) -> set[str]:
        return {
            row["orderId"] for row in queries.order_page(record, ada, Filters(**filters), limit=10, after=None).rows
        }

    assert found(intent=intent_id) == set(lines)
    assert found(states=("FILLED", "REJECTED")) == {lines[1], sent}
    assert found(instrument="NSE:TCS") == {wanted}
    assert found(broker="zerodha") == {wanted}
    assert found(broker="upstox") == {sent}
    assert found(account="ZR1") == {wanted}
    assert found(account="UP1", states=("OPEN",)) == set()


def test_slices_are_listed_by_their_parent_alone_and_their_trades_are_its_own(record: Connection):
    ada = a_user(record, "ada")
    parent = an_order(record, ada, slices=2)
    slices = [an_order(record, ada, parent_id=parent) for _ in range(2)]
    for number, order_id in enumerate(slices):
        a_trade(record, ada, order_id, number)

    assert [row["orderId"] for row in queries.order_page(record, ada, ALL, limit=10, after=None).rows] == [parent]
    below = queries.order_page(record, ada, Filters(parent=parent), limit=10, after=None).rows
    assert [row["orderId"] for row in below] == slices[::-1]
    assert all(row["parentId"] == parent for row in below)
    assert [row["orderId"] for row in queries.trades_of(record, ada, parent)["trades"]] == slices


def test_a_history_has_every_event_oldest_first(record: Connection):
    ada = a_user(record, "ada")
    order_id = an_order(record, ada)
    for seq, (kind, before, after) in enumerate([("RECEIVED", None, "RECEIVED"), ("CLEARED", "RECEIVED", "RECEIVED")]):
        event = {"event_type": kind, "prev_state": before, "new_state": after, "source": "CLIENT"}
        record.execute(insert(order_events).values(order_id=order_id, seq=seq, at=AT, detail={"n": seq}, **event))

    view = queries.history(record, ada, order_id)

    assert [(event["seq"], event["type"], event["detail"]) for event in view["events"]] == [
        (0, "RECEIVED", {"n": 0}),
        (1, "CLEARED", {"n": 1}),
    ]
    answers.History.model_validate(view)


def test_trades_of_one_moment_are_all_found_page_after_page(record: Connection):
    ada = a_user(record, "ada")
    order_ids = [an_order(record, ada) for _ in range(2)]
    for order_id in order_ids:
        for number in range(3):
            a_trade(record, ada, order_id, number, at=AT)
    seen, after = [], None
    while True:
        page = queries.trade_page(record, ada, ALL, limit=2, after=after)
        seen += [(row["orderId"], row["tradeId"]) for row in page.rows]
        if page.next is None:
            break
        after = read_trade_cursor(page.next)

    assert len(seen) == len(set(seen)) == 6
    answers.TradePage.model_validate({"trades": page.rows, "next": None})


def test_brokers_show_the_callers_accounts_and_what_waits_for_dispatch(record: Connection):
    ada = a_user(record, "ada")
    for account, broker in (("UP1", "upstox"), ("UP2", "upstox"), ("ZR1", "zerodha")):
        record.execute(
            insert(accounts).values(
                id=account,
                user_id=ada.user_id,
                broker=broker,
                calendar="SIM",
                credentials=b"",
                limit_paise=10_000_050,
                blocked_paise=5,
            )
        )
    a_command(record, an_order(record, ada))

    views = queries.broker_views(record, ada)

    assert [(view["broker"], view["queued"], len(view["accounts"])) for view in views] == [
        ("UPSTOX", 1, 2),
        ("ZERODHA", 0, 1),
    ]
    assert views[0]["accounts"][0] == {
        "account": "UP1",
        "calendar": "SIM",
        "session": "ALIVE",
        "openOrders": 0,
        "blocked": "0.05",
        "limit": "100000.50",
    }
