"""A preview says what the stages then do: the same verdicts with the same numbers, the same calls with the same lines."""

from __future__ import annotations

import re
from collections.abc import Sequence

import orjson
from house import ACCOUNTS, FakeBroker, House, eventually, intake_engine

from brokers.answers import dump_json
from brokers.base import Line, Payload, Session, Unsayable
from brokers.dialects import upstox as words
from domain.intents import PlaceRequest
from domain.outcomes import Refused
from domain.verdicts import Reject
from pipeline.preview import outcome_of, preview
from pipeline.steps import STEPS
from store.json import dump

LINES = (
    {"price": "1120.00", "quantity": 5},
    {"price": "1120.00", "quantity": 89_000},
    {"price": "1120.00", "quantity": 180_000, "account": "FK0002"},
    {"price": "1.00", "quantity": 1},
    {"price": "1120.00", "quantity": 1, "account": "FK0003"},
    {"price": "1120.00", "quantity": 3, "account": "FK0002"},
)


class Writer(FakeBroker):
    """Says and sends the lines in a broker's own words."""

    def payload(self, session: Session, lines: Sequence[Line]) -> Sequence[Payload]:
        body = dump_json([words.place_fields(line) for line in lines]).encode()
        return [Payload(tuple(range(len(lines))), "POST", "http://fake", "/place", {}, {}, body)]

    def sent(self) -> list[str]:
        return [self.payload(None, call)[0].body.decode() for call in self.calls]  # type: ignore[arg-type]


def without_tags(text: str) -> str:
    return re.sub(r'"OC[0-9A-Z]{17}"', '"tag"', text)


def a_request() -> PlaceRequest:
    known = {"instrument": "NSE:INFY", "side": "BUY", "product": "CNC", "orderType": "LIMIT", "account": "FK0001"}
    orders = [{"correlationId": f"c{number}", **known, **line} for number, line in enumerate(LINES)]
    return PlaceRequest.model_validate({"orders": orders})


def test_a_preview_is_what_then_happens(house: House) -> None:
    house.run(
        "insert into settings (name, value, updated_by) values ('order_value_max_paise', 'null', 'test'),"
        " ('quantity_max', 'null', 'test')"
    )
    house.run("update accounts set limit_paise = 100000000 where id = 'FK0003'")
    broker = Writer(lines_per_call=3)
    desk = house.desk(broker)

    shown = preview(desk, house.user_id, a_request())

    assert house.rows("select 1 from orders") == []
    assert house.rows("select sum(open_orders), sum(orders_this_second) from accounts") == [(0, 0)]
    submission = house.submission()
    intake = house.intake(desk)
    acceptance = intake.submit(
        type(submission)(house.user_id, house.user_id, "the-key-of-the-preview", b"f" * 32, a_request())
    ).result(10)
    intake_engine(desk, *STEPS).run("validate", "-")
    for line, placed in zip(shown.lines, acceptance.lines, strict=True):
        (detail,) = house.rows(
            "select detail from order_events where order_id = %s and seq = 1", placed.order_id
        )[0]
        told = orjson.loads(dump(line.said))
        for verdict in (*told, *detail["verdicts"]):
            verdict.get("facts", {}).pop("orders_this_second", None)  # of another second, perhaps
        for mine, theirs in zip(told, detail["verdicts"], strict=True):
            assert mine == theirs
        state = "REJECTED" if outcome_of(line.verdict) == "REJECTED" else "RECEIVED"
        assert house.order(placed.order_id).state == state
        slices = house.rows("select quantity from orders where parent_id = %s order by id", placed.order_id)
        assert [part.quantity for part in line.parts][: len(slices)] == [quantity for (quantity,) in slices]

    dispatcher = house.dispatcher(desk)
    dispatcher.pump("-")
    eventually(lambda: dispatcher.is_idle)
    foretold = sorted([(order.account_id, order.line, order.quantity) for order in call.orders] for call in shown.calls)
    made = sorted([(at.order.account_id, at.order.line, at.order.quantity) for at in call] for call in broker.calls)
    assert foretold == made
    bodies = [call.payload.body.decode() for call in shown.calls if call.payload is not None]
    assert sorted(map(without_tags, bodies)) == sorted(map(without_tags, broker.sent()))
    assert len({tag for body in bodies for tag in re.findall(r"OC[0-9A-Z]{17}", body)}) == len(broker.tags)


def test_a_preview_of_an_order_without_an_account(house: House) -> None:
    request = a_request()
    stranger = "01a20466-ec73-7397-b8ac-3c31d983f61a"

    shown = preview(house.desk(), stranger, request)

    assert {outcome_of(line.verdict) for line in shown.lines} == {"REJECTED"}
    assert shown.calls == []


def test_the_other_accounts_are_told_with_the_reason_against_them(house: House) -> None:
    (first, *_) = preview(house.desk(), house.user_id, a_request()).lines

    assert [(choice.account.id, choice.place) for choice in first.choices] == [
        ("FK0001", 1),
        *((account.id, None) for account in ACCOUNTS[1:]),
    ]
    assert {choice.why for choice in first.choices[1:]} == {"account FK0001 was named"}


def test_lines_that_wait_for_others_are_told_so_and_are_never_in_one_call(house: House) -> None:
    desk = house.desk(FakeBroker(lines_per_call=3))
    request = a_request().model_dump(by_alias=True, exclude_none=True)
    first, second, third = request["orders"][:1] * 3
    lines = [
        first,
        {**second, "correlationId": "c1", "after": "c0"},
        {**third, "correlationId": "c2"},
    ]

    legs = preview(desk, house.user_id, PlaceRequest.model_validate({"orders": lines}))
    alone = preview(desk, house.user_id, PlaceRequest.model_validate({"orders": lines, "policy": "FAIL_FAST"}))

    assert [line.held for line in legs.lines] == [None, "waits for line 1 (c0) to be filled", None]
    assert [[order.line for order in call.orders] for call in legs.calls] == [[0, 2], [1]]
    assert [[order.line for order in call.orders] for call in alone.calls] == [[0], [1], [2]]


def test_a_line_that_is_refused_keeps_back_those_that_are_sent_with_it_or_not_at_all(house: House) -> None:
    request = a_request().model_dump(by_alias=True, exclude_none=True)
    orders = [request["orders"][0], request["orders"][3]]

    shown = preview(
        house.desk(), house.user_id, PlaceRequest.model_validate({"orders": orders, "policy": "ALL_OR_NONE"})
    )

    first, second = shown.lines
    assert isinstance(first.verdict, Reject)
    assert isinstance(second.verdict, Reject)
    assert first.verdict.code == "GROUP_REJECTED"
    assert first.verdict.text.startswith("line 2 (c3) was REJECTED: ")
    assert second.verdict.code == "PRICE_BAND"
    assert shown.calls == []


def test_what_is_switched_off_is_told_as_switched_off(house: House) -> None:
    house.run(
        "insert into switches (scope, subject, mode, version, reason, by, by_operator, at, wanted)"
        " values ('ACCOUNT', 'FK0002', 'HALTED', 1, 'a fat finger', 'otto', true, now(), '{}')"
    )

    shown = preview(house.desk(), house.user_id, a_request())

    halted = [line.verdict.code for line in shown.lines if isinstance(line.verdict, Reject)]
    assert halted.count("HALTED") == 2
    assert not any(order.account_id == "FK0002" for call in shown.calls for order in call.orders)


class Speechless(FakeBroker):
    """Has no words for more than five."""

    def payload(self, session: Session, lines: Sequence[Line]) -> Sequence[Payload | Unsayable]:  # type: ignore[override]
        said: list[Payload | Unsayable] = []
        for at, line in enumerate(lines):
            if line.order.quantity > 5:
                said.append(Unsayable(at, Refused("NOT_TRANSLATABLE", "no words for so many")))
            else:
                said.extend(super().payload(session, [line]))
        return said


def test_a_line_that_the_broker_has_no_words_for_is_in_no_request(house: House) -> None:
    orders = a_request().model_dump(by_alias=True, exclude_none=True)["orders"][:1]
    lines = [{**orders[0], "correlationId": f"l{number}", "quantity": number} for number in (5, 6)]

    shown = preview(house.desk(Speechless(lines_per_call=2)), house.user_id, PlaceRequest.model_validate({"orders": lines}))

    assert [(call.payload is not None, call.refusal) for call in shown.calls] == [(True, None), (False, "no words for so many")]
