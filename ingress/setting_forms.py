"""What is sent and answered at `/v2/settings` and `/v2/admin/settings`, made of the settings themselves."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, create_model
from pydantic.alias_generators import to_camel

from domain.setting_names import GROUP, Described, Document, describe
from domain.settings import Settings, UserSettings


class _Outside(BaseModel):
    model_config = ConfigDict(extra="forbid", populate_by_name=True)


class SettingChange(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, extra="forbid")

    name: str
    by: str
    at: datetime


def _fields(document: Document, wanted: list[Described]) -> dict[str, Any]:
    """Fields with their outside names; one that isn't given stays as it is."""
    made = {}
    for one in wanted:
        info = document.model_fields[one.field]
        kind = Annotated[info.annotation, *info.metadata] if info.metadata else info.annotation
        given = {"default_factory": info.default_factory} if info.default_factory else {"default": info.default}
        alias = one.name.rpartition(".")[2]
        made[one.field] = (kind, Field(alias=alias, description=one.meaning, **given))
    return made


def _outside(document: Document, name: str) -> dict[str, Any]:
    grouped = [one for one in describe(document) if "." in one.name]
    fields = _fields(document, [one for one in describe(document) if "." not in one.name])
    if grouped:
        limits = create_model(f"{name}Limits", __base__=_Outside, **_fields(document, grouped))
        fields[GROUP] = (limits, Field(default_factory=limits, description="What each order and account is held to."))
    return fields


_RESET = Field(default=(), description="Names of settings that go back to their defaults.")
SettingsChanges: type[BaseModel] = create_model(
    "SettingsChanges", __base__=_Outside, **_outside(Settings, "SettingsChanges"), reset=(tuple[str, ...], _RESET)
)
UserSettingsChanges: type[BaseModel] = create_model(
    "UserSettingsChanges",
    __base__=_Outside,
    **_outside(UserSettings, "UserSettingsChanges"),
    reset=(tuple[str, ...], _RESET),
)
_Admins: type[BaseModel] = create_model("SettingsOfAll", __base__=_Outside, **_outside(Settings, "SettingsOfAll"))
_Users: type[BaseModel] = create_model("SettingsOfUser", __base__=_Outside, **_outside(UserSettings, "SettingsOfUser"))


def _answer(name: str, settings: type[BaseModel]) -> type[BaseModel]:
    return create_model(
        name,
        __base__=_Outside,
        version=(int, Field(description="How often the document was changed.")),
        settings=(settings, ...),
        changed=(list[SettingChange], Field(description="What is not its default, and who has changed it.")),
    )


SettingsDocument = _answer("SettingsDocument", _Admins)
UserSettingsDocument = _answer("UserSettingsDocument", _Users)
