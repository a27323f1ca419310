"""Settings: documents of them changed as a whole, checked, versioned and recorded; every process reads them each second."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import psycopg

from domain.errors import Fault, Malformed, StaleDocument, StoreAway
from domain.setting_names import Changes, changed, describe, pointer_of, to_outside
from domain.settings import Settings, UserSettings
from pipeline.crash import crash
from pipeline.desk import Desk
from readmodel.views import moment_text
from store import acts, audit, setting_documents
from store.acts import Once
from store.setting_documents import ADMIN, Stored
from store.unit import Unit, is_passing


@dataclass(frozen=True, slots=True, kw_only=True)
class By:
    """Who changes settings, and from where: "command", or the API key's id."""

    name: str
    via: str = "command"
    once: Once | None = None


def show(desk: Desk, owner: str) -> dict[str, Any]:
    """A document as it is answered: its version, all settings, and who has changed which."""
    with desk.store.unit() as unit:
        return _document(owner, setting_documents.version(unit, owner), setting_documents.stored(unit, owner))


def change(desk: Desk, owner: str, asked: Changes, by: By, *, version: int | None = None) -> dict[str, Any]:
    """Change a document, all that is asked or nothing; the document as it is then.

    Raises Malformed with the place of each fault, StaleDocument where `version` isn't its own, KeyReused, StoreAway.
    """
    try:
        with desk.store.unit() as unit:
            told = _changed(unit, desk, owner, asked, by, version)
            crash("settings.before_commit")
    except psycopg.OperationalError as error:
        if is_passing(error):
            raise StoreAway("somebody else is changing these settings; try again") from error
        raise
    crash("settings.after_commit")
    desk.forget()
    return told


def _changed(
    unit: Unit, desk: Desk, owner: str, asked: Changes, by: By, version: int | None
) -> dict[str, Any]:
    at = desk.now()
    if by.once is not None and (kept := acts.begin(unit, by.once, at)) is not None:
        return {**kept, "replayed": True}
    found = setting_documents.lock(unit, owner)
    if version is not None and version != found:
        raise StaleDocument("the document of settings", expected=version, found=found)
    known = _known(owner, setting_documents.stored(unit, owner))
    before = changed(_model(owner), known, Changes())
    after = changed(_model(owner), known, asked)
    faults = tuple(fault for name, fault in _unknown_brokers(unit, desk, owner, after) if name in asked.new)
    if faults:
        raise Malformed(faults)
    values = after.model_dump(mode="json")
    new = {name: _in_lower_case(name, values[name]) for name in asked.new}
    saved = setting_documents.save(unit, owner, new, asked.reset, by=by.name)
    told = _document(owner, saved, setting_documents.stored(unit, owner))
    old = before.model_dump(mode="json")
    outside = {one.field: one.name for one in describe(_model(owner))}
    moved = {outside[name]: {"old": old[name], "new": new.get(name, values[name])} for name in (*new, *asked.reset)}
    audit.write(unit, at, by.name, "settings.change", owner, {"version": saved, "changes": moved, "via": by.via})
    if by.once is not None:
        acts.keep(unit, by.once, told)
    return told


def _model(owner: str) -> type[Settings] | type[UserSettings]:
    return Settings if owner == ADMIN else UserSettings


def _known(owner: str, stored: Mapping[str, Stored]) -> dict[str, Any]:
    """Without what only a newer version knows."""
    return {name: one.value for name, one in stored.items() if name in _model(owner).model_fields}


def _document(owner: str, version: int, stored: Mapping[str, Stored]) -> dict[str, Any]:
    model = _model(owner)
    names = {one.field: one.name for one in describe(model)}
    return {
        "version": version,
        "settings": to_outside(changed(model, _known(owner, stored), Changes())),
        "changed": [
            {"name": names[name], "by": one.by, "at": moment_text(one.at)}
            for name, one in sorted(stored.items())
            if name in names
        ],
    }


def _in_lower_case(name: str, value: Any) -> Any:
    """Brokers are named in lower case inside, whatever the client writes."""
    if name == "fallback_brokers":
        return [broker.lower() for broker in value]
    if name == "strategy_brokers":
        return {strategy: broker.lower() for strategy, broker in value.items()}
    if name == "broker_proof_s":
        return {broker.lower(): seconds for broker, seconds in value.items()}
    return value.lower() if name == "default_broker" and value is not None else value


def _unknown_brokers(unit: Unit, desk: Desk, owner: str, after: Settings | UserSettings) -> Iterator[tuple[str, Fault]]:
    """By setting, the brokers that are named and aren't there; of a user, at which it has no account."""
    if isinstance(after, UserSettings):
        if after.default_broker is not None:
            rows = unit.rows("select distinct broker from accounts where user_id = %s order by 1", (owner,))
            own = [row[0] for row in rows]
            if after.default_broker.lower() not in own:
                listed = ", ".join(own) or "no broker at all"
                yield "default_broker", Fault(pointer_of("default_broker"), "NOT_ONE_OF", f"you have accounts at {listed}")
        return
    there = sorted(desk.adapters)
    named: list[tuple[str, object, str]] = [
        *(("fallback_brokers", number, broker) for number, broker in enumerate(after.fallback_brokers)),
        *(("strategy_brokers", strategy, broker) for strategy, broker in after.strategy_brokers.items()),
        *(("broker_proof_s", broker, broker) for broker in after.broker_proof_s),
    ]
    for name, place, broker in named:
        if broker.lower() not in there:
            yield name, Fault(pointer_of(name, place), "NOT_ONE_OF", f"the brokers here are {', '.join(there)}")
