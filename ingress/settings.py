"""Settings over HTTP: a user's own, and the administrator's for all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
from pydantic import TypeAdapter

from domain.setting_names import Changes, Document, read_changes
from domain.settings import Settings, UserSettings
from ingress import parameters, shape
from ingress.door import Door
from ingress.operations import KEY_PROBLEMS, PLACES, READS_ALL, REPLAYED_HEADER, Answer, Call, op
from ingress.operators import there
from ingress.setting_forms import (
    SettingsChanges,
    SettingsDocument,
    UserSettingsChanges,
    UserSettingsDocument,
)
from ingress.switches import VERSION, version_wanted
from ingress.wire import REPLAYED, Reply, idempotency_key, json_body
from store.acts import Once
from store.setting_documents import ADMIN
from store.users import Role

if TYPE_CHECKING:
    from pipeline.settings import By

TAG = "Settings"
_ANY: TypeAdapter[Any] = TypeAdapter(Any)
_HEADERS = {"ETag": "Its version.", **REPLAYED_HEADER}


@op(
    "GET",
    "/v2/settings",
    tag=TAG,
    roles=PLACES,
    answers={200: Answer(description="The caller's own settings.", model=UserSettingsDocument)},
)
async def show_settings(door: Door, call: Call) -> Reply:
    """Your own settings, and which of them aren't the defaults."""
    return await _show(door, call.key.user_id)


@op(
    "PATCH",
    "/v2/settings",
    tag=TAG,
    roles=PLACES,
    parameters=(parameters.IDEMPOTENCY_KEY, VERSION),
    body=UserSettingsChanges,
    body_example={"allowPartialMultiOrder": False},
    answers={200: Answer(description="The settings as they are now.", model=UserSettingsDocument, headers=_HEADERS)},
    problems=(*KEY_PROBLEMS, "BAD_PARAMETER", "STALE_DOCUMENT"),
)
async def change_settings(door: Door, call: Call) -> Reply:
    """Change some of your own settings; `reset` names those that go back to their defaults.

    All of it is done, or nothing. It counts everywhere within two seconds.
    """
    return await _change(door, call, call.key.user_id, UserSettings)


@op(
    "GET",
    "/v2/admin/settings",
    tag=TAG,
    roles=READS_ALL,
    answers={200: Answer(description="The settings for all.", model=SettingsDocument)},
)
async def show_admin_settings(door: Door, call: Call) -> Reply:
    """The settings for all, and which of them aren't the defaults."""
    return await _show(door, ADMIN)


@op(
    "PATCH",
    "/v2/admin/settings",
    tag=TAG,
    roles=frozenset({Role.ADMIN}),
    parameters=(parameters.IDEMPOTENCY_KEY, VERSION),
    body=SettingsChanges,
    body_example={"maxOrdersPerBatch": 50, "limits": {"quantityMax": 5000}, "reset": ["maxUnsentSec"]},
    answers={200: Answer(description="The settings as they are now.", model=SettingsDocument, headers=_HEADERS)},
    problems=(*KEY_PROBLEMS, "BAD_PARAMETER", "STALE_DOCUMENT"),
)
async def change_admin_settings(door: Door, call: Call) -> Reply:
    """Change some of the settings for all; `reset` names those that go back to their defaults.

    All of it is done, or nothing. It counts everywhere within two seconds.
    """
    return await _change(door, call, ADMIN, Settings)


async def _show(door: Door, owner: str) -> Reply:
    from pipeline import settings

    told = await there(door.switchers).run(lambda desk: settings.show(desk, owner))
    return Reply(200, orjson.dumps(told), {"ETag": f'"{told["version"]}"'})


async def _change(door: Door, call: Call, owner: str, document: Document) -> Reply:
    from pipeline import settings

    version = version_wanted(call.request)
    key = idempotency_key(call.request)
    asked, canonical = shape.read_form(await json_body(call.request), _ANY)
    changes: Changes = read_changes(document, asked)
    once = Once(call.key.user_id, key, shape.fingerprint("PATCH", call.request.path, canonical, version=version))
    by: By = settings.By(name=call.key.name, via=f"key {call.key.id}", once=once)
    told = await there(door.switchers).run(lambda desk: settings.change(desk, owner, changes, by, version=version))
    is_replayed = told.pop("replayed", False)
    return Reply(200, orjson.dumps(told), {"ETag": f'"{told["version"]}"', **(REPLAYED if is_replayed else {})})
