"""Schedules over HTTP: what is still to come, what has come of the others, and how to take one back."""

from __future__ import annotations

from typing import Any

import orjson

from domain.schedules import ScheduledCancel
from ingress import parameters, shape
from ingress.door import Door, scope_of
from ingress.operations import (
    EVERY_ROLE,
    KEY_PROBLEMS,
    PLACES,
    REPLAYED_HEADER,
    Answer,
    Call,
    Parameter,
    op,
    true_or_false,
)
from ingress.operators import there
from ingress.schedule_forms import SchedulePage, ScheduleView
from ingress.wire import REPLAYED, Reply, idempotency_key
from readmodel.pages import id_cursor

TAG = "Schedules"
LIVE = Parameter(
    name="live",
    schema={"type": "boolean", "default": False},
    description="Only those of which something is still to come.",
    read=true_or_false,
    default=False,
)


def path_of(schedule_id: str) -> str:
    return f"/v2/schedules/{schedule_id}"


@op(
    "GET",
    "/v2/schedules",
    tag=TAG,
    roles=EVERY_ROLE,
    parameters=(LIVE, parameters.LIMIT, parameters.AFTER_ID),
    answers={200: Answer(description="A page of schedules, newest first.", model=SchedulePage)},
)
async def list_schedules(door: Door, call: Call) -> Reply:
    """Schedules, newest first, with what has come of each of their times.

    They are made by `POST /v2/orders/multi/cancel` with `at` or `atSessionEnd`, and by a square-off with `cancelOpen`.
    """
    from pipeline import schedules

    user_id, query = scope_of(call.key).user_id, call.query
    found, last = await there(door.changers).run(
        lambda desk: schedules.page(desk, user_id, live_only=query["live"], limit=query["limit"], after=query["after"])
    )
    document = {"schedules": [_with_links(one) for one in found], "next": id_cursor(last) if last else None}
    return Reply(200, orjson.dumps(document))


@op(
    "GET",
    "/v2/schedules/{scheduleId}",
    tag=TAG,
    roles=EVERY_ROLE,
    answers={200: Answer(description="The schedule.", model=ScheduleView)},
    problems=("NOT_FOUND",),
)
async def show_schedule(door: Door, call: Call) -> Reply:
    """One schedule, with what has come of each of its times."""
    from pipeline import schedules

    schedule_id = parameters.id_in_path(call.path["scheduleId"], "schedule")
    user_id = scope_of(call.key).user_id
    found = await there(door.changers).run(lambda desk: schedules.show(desk, user_id, schedule_id))
    return Reply(200, orjson.dumps(_with_links(found)))


@op(
    "DELETE",
    "/v2/schedules/{scheduleId}",
    tag=TAG,
    roles=PLACES,
    parameters=(parameters.IDEMPOTENCY_KEY,),
    answers={
        200: Answer(
            description="Nothing of it is begun any more that was not.",
            model=ScheduleView,
            headers=REPLAYED_HEADER,
        )
    },
    problems=(*KEY_PROBLEMS, "NOT_FOUND", "SCHEDULE_OVER"),
)
async def remove_schedule(door: Door, call: Call) -> Reply:
    """Take a schedule back. What was begun already is not undone: of that the answer tells, too."""
    from pipeline import schedules
    from pipeline.squareoff import Asked

    schedule_id = parameters.id_in_path(call.path["scheduleId"], "schedule")
    key = idempotency_key(call.request)
    asked = Asked(call.key.user_id, call.key.id, key, shape.fingerprint("DELETE", path_of(schedule_id), b""))
    told = await there(door.changers).run(lambda desk: schedules.remove(desk, asked, schedule_id))
    return _told(200, told)


async def schedule_cancel(door: Door, call: Call, wanted: ScheduledCancel, key: str, fingerprint: bytes) -> Reply:
    """The answer to a cancel that is to be carried out later."""
    from pipeline import schedules
    from pipeline.squareoff import Asked

    asked = Asked(call.key.user_id, call.key.id, key, fingerprint)
    told = await there(door.changers).run(lambda desk: schedules.accept(desk, asked, wanted))
    return _told(202, told)


def _told(status: int, told: dict[str, Any]) -> Reply:
    document = {name: value for name, value in told.items() if name != "replayed"}
    headers = {"Location": path_of(told["scheduleId"])} if status == 202 else {}
    return Reply(status, orjson.dumps(_with_links(document)), headers | (REPLAYED if told.get("replayed") else {}))


def _with_links(document: dict[str, Any]) -> dict[str, Any]:
    return {**document, "links": {"schedule": path_of(document["scheduleId"])}}
