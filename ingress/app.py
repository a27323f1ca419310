"""The web application: routes from operations, and what happens to requests that reach none."""

from __future__ import annotations

import gc
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from importlib import metadata
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import falcon
import falcon.asgi
import orjson

from domain.settings import Settings, UserSettings
from ingress import (
    brokers,
    changes,
    deadletters,
    health,
    intents,
    openapi,
    orders,
    pages,
    positions,
    postbacks,
    preview,
    schedules,
    settings,
    signals,
    switches,
    trades,
)
from ingress.door import Check, Door
from ingress.endpoint import Endpoint, refusal
from ingress.operations import Operation
from ingress.problems import Problem
from ingress.wire import Request, write

if TYPE_CHECKING:
    from pipeline.desk import Desk

OPERATIONS: tuple[Operation, ...] = (
    orders.place_multi,
    preview.preview_orders,
    changes.modify_order,
    changes.cancel_multi,
    changes.preview_cancel,
    changes.cancel_order,
    intents.show_intent,
    intents.list_intents,
    orders.list_orders,
    orders.show_order,
    orders.show_history,
    orders.show_trades,
    trades.list_trades,
    brokers.list_brokers,
    schedules.list_schedules,
    schedules.show_schedule,
    schedules.remove_schedule,
    positions.square_off,
    switches.list_switches,
    switches.turn_switch,
    settings.show_settings,
    settings.change_settings,
    settings.show_admin_settings,
    settings.change_admin_settings,
    deadletters.list_dead_letters,
    deadletters.explain_dead_letter,
    deadletters.requeue_dead_letter,
    deadletters.park_dead_letter,
    deadletters.unpark_dead_letter,
    deadletters.settle_dead_letter,
    deadletters.discard_dead_letter,
    deadletters.drain_dead_letters,
    signals.list_signals,
    signals.show_signal,
    signals.define_signal,
    signals.rotate_signal,
    signals.remove_signal,
    signals.list_received,
    signals.hear_signal,
    postbacks.hear_postback,
    health.livez,
    health.readyz,
    health.version,
    health.metrics,
)
CANCELLERS = 4  # threads that accept cancels, and connections for them
CHANGERS = 4  # threads that accept modifies, schedules and square-offs
SWITCHERS = 3  # threads that turn switches and change settings, and connections for them
NOTERS = 2  # threads that write down who has read what
TRIALS = 2  # threads that try requests out
SIGNALLERS = 2  # threads that look whose a signal's secret is, and connections for them
SIGNALS_WAITING = 200  # for these: anybody may send some, and each takes about a millisecond
READERS = 4  # threads that read, and connections for them
KEY_READERS = 1  # the same, for API keys: no read keeps a caller from being known
_HTTP_CODES = {404: "NOT_FOUND", 405: "METHOD_NOT_ALLOWED", 413: "BODY_TOO_LARGE", 415: "NOT_JSON"}


class App(falcon.asgi.App[Request, falcon.asgi.Response]):
    """Falcon's application with the door it serves, so that the server can tell it to drain."""

    def __init__(self, door: Door) -> None:
        super().__init__(request_type=Request, middleware=[_Lifespan(door)])
        self.door = door

    def drain(self) -> None:
        self.door.drain()


class _Lifespan:
    """Opens the door when the server starts, closes it when it ends. READY_FILE tells a supervisor that it is open."""

    def __init__(self, door: Door) -> None:
        self._door = door

    async def process_startup(self, scope: Any, event: Any) -> None:
        await self._door.open()
        gc.collect()
        gc.freeze()  # what is there by now stays; no collection need look at it again
        gc.set_threshold(10_000, 20, 20)
        ready = os.environ.get("READY_FILE")
        if ready:
            Path(ready).touch()

    async def process_shutdown(self, scope: Any, event: Any) -> None:
        await self._door.close()


def create_app(door: Door, operations: Sequence[Operation] = OPERATIONS) -> App:
    app = App(door)
    app.req_options.strip_url_path_trailing_slash = False
    app.req_options.auto_parse_qs_csv = False
    app.req_options.keep_blank_qs_values = True
    by_path = sorted(operations, key=lambda operation: operation.path)
    for path, group in groupby(by_path, key=lambda operation: operation.path):
        app.add_route(path, Endpoint(door, list(group)))
    document = orjson.dumps(openapi.document(operations, door.version.get("version", "0")))
    pages.add_to(app, document)
    app.add_error_handler(falcon.HTTPError, _refuse_http)
    app.add_error_handler(Exception, _refuse_defect)
    return app


async def _refuse_http(
    request: Request, response: falcon.asgi.Response, error: falcon.HTTPError, params: Any, ws: Any = None
) -> None:
    """What Falcon itself refuses: no such path, no such method, headers that can't be read."""
    if ws is not None:
        await ws.close()  # before it was accepted: the client sees 403
        return
    code = _HTTP_CODES.get(error.status_code, "BAD_REQUEST")
    details = {"NOT_FOUND": "there is nothing at this path", "METHOD_NOT_ALLOWED": "`Allow` names this path's methods"}
    allow = {name: value for name, value in dict(error.headers or {}).items() if name.lower() == "allow"}
    detail = details.get(code, "the method or a header of this request can't be understood")
    write(request, response, refusal(request, Problem(code, detail, headers=allow), "none"))


async def _refuse_defect(
    request: Request, response: falcon.asgi.Response, error: Exception, params: Any, ws: Any = None
) -> None:
    if ws is not None:
        raise error
    write(request, response, refusal(request, error, "none"))


def from_env() -> App:
    """The application of a web process, from its environment."""
    from pipeline import desk, logs

    logs.begin()
    return create_app(door_of(desk.from_env("web")))


def door_of(desk: Desk) -> Door:
    """A door onto a desk; its intake and admission are started."""
    from redis.asyncio import Redis
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff

    from brokers.health import Health
    from ingress.auth import Keys
    from ingress.known_keys import KnownKeys
    from ingress.operators import WAITING_PER_THREAD, Operators
    from ingress.probes import amqp_answers
    from ingress.throttle import Throttle
    from ingress.waiters import Waiters
    from pipeline.admission import Admission
    from pipeline.aftermath import carry_out, end_unsent
    from pipeline.beside import Beside
    from pipeline.intake import Intake
    from pipeline.postbacks import hear
    from readmodel.reader import Reader
    from store import settings as setting_rows
    from store import user_settings
    from store.unit import Store

    environment = desk.environment
    circuits = Health(desk.redis)
    store = Store(environment.database_url, name="web-reads", size=READERS)
    reader = Reader(store, threads=READERS)
    key_store = Store(environment.database_url, name="web-keys", size=KEY_READERS)
    key_reader = Reader(key_store, threads=KEY_READERS)
    redis = Redis.from_url(
        environment.redis_url, socket_timeout=0.25, socket_connect_timeout=0.25, retry=Retry(NoBackoff(), 0)
    )
    news = Redis.from_url(environment.redis_url, socket_connect_timeout=1, socket_keepalive=True)
    admission = Admission(desk)
    admission.start()
    desk.wakeups.start()
    intake = Intake(desk, admission)
    operators = Operators(desk)
    trials = Operators(desk, threads=TRIALS, name="trial", waiting_max=TRIALS * WAITING_PER_THREAD)
    signal_store = Store(environment.database_url, name="web-signals", size=SIGNALLERS)
    signal_desk = replace(desk, store=signal_store)
    signallers = Operators(signal_desk, threads=SIGNALLERS, name="signal", waiting_max=SIGNALS_WAITING)
    cancel_store = Store(environment.database_url, name="web-cancels", size=CANCELLERS)
    cancellers = Operators(replace(desk, store=cancel_store), threads=CANCELLERS, name="cancel")
    changers = Operators(desk, threads=CHANGERS, name="change", waiting_max=CHANGERS * WAITING_PER_THREAD)
    switch_store = Store(environment.database_url, name="web-switches", size=SWITCHERS)
    switchers = Operators(replace(desk, store=switch_store), threads=SWITCHERS, name="switch")
    noters = Operators(desk, threads=NOTERS, name="note")
    # What was not sent is ended though what an earlier switch wants is still under way.
    following = (Beside("unsent", partial(end_unsent, desk)), Beside("aftermath", partial(carry_out, desk)))

    def follow() -> None:
        for beside in following:
            beside.ask()

    def read_settings() -> Settings:
        with store.unit() as unit:
            return setting_rows.read(unit)

    def read_users() -> Mapping[str, UserSettings]:
        with store.unit() as unit:
            return user_settings.read_all(unit)

    def close() -> None:
        operators.close()
        trials.close()
        signallers.close()
        signal_store.close()
        cancellers.close()
        changers.close()
        switchers.close()
        noters.close()
        for beside in following:
            beside.close()
        switch_store.close()
        key_reader.close()
        cancel_store.close()
        admission.stop()
        intake.stop()
        desk.close()

    return Door(
        intake=intake,
        reader=reader,
        keys=Keys(key_reader, key_store, environment.secret.encode()),
        known_keys=KnownKeys(reader, store),
        throttle=Throttle(redis, processes=int(os.environ.get("WEB_CONCURRENCY") or 1)),
        waiters=Waiters(reader, news),
        read_settings=read_settings,
        read_users=read_users,
        checks={
            "postgres": Check(lambda: reader.ask(_one), needed=True),
            "redis": Check(lambda: redis.ping(), needed=False),
            "rabbitmq": Check(
                lambda: amqp_answers(environment.queue_url, doubtful=not desk.wakeups.connected), needed=False
            ),
        },
        lines_per_call={name: adapter.capabilities.lines_per_call for name, adapter in desk.adapters.items()},
        circuit=lambda broker: "OPEN" if circuits.is_open(broker, "place") else "CLOSED",
        hear=lambda broker, headers, body: hear(desk, broker, headers, body),
        operators=operators,
        trials=trials,
        signallers=signallers,
        cancellers=cancellers,
        changers=changers,
        switchers=switchers,
        noters=noters,
        follow=follow,
        release=close,
        version={"version": metadata.version("order-coordinator"), "revision": os.environ.get("REVISION", "")},
    )


def _one(connection: Any) -> None:
    connection.exec_driver_sql("select 1")
