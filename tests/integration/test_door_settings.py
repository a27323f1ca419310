"""Settings and switches over HTTP: who may, what is answered, and that every process heeds them within two seconds."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest
from door_server import PLACE, SECRET, Server, a_key, a_line, a_request, let_everything_in, make_key, serving
from shared_services import SharedServices

from domain.ids import new_id
from ops.commandline import run
from ops.coordinator import commands as coordinator_commands
from ops.trader import commands as trader_commands
from store.unit import Store
from store.users import Role

ADMIN, OWN, SWITCHES = "/v2/admin/settings", "/v2/settings", "/v2/switches"
WITHIN_S = 2.0


@pytest.fixture(scope="module")
def doors(tmp_path_factory, database_url: str, queue_url: str, services: SharedServices) -> Iterator[tuple[Server, Server]]:
    """Two web processes on one record."""
    let_everything_in(database_url)
    folder = tmp_path_factory.mktemp("door")
    given = {"database_url": database_url, "queue_url": queue_url, "redis_url": services.redis_url}
    with serving(folder, **given) as one, serving(folder, **given) as other:
        yield one, other


@pytest.fixture(scope="module")
def store(database_url: str) -> Iterator[Store]:
    store = Store(database_url, name="test", size=1)
    yield store
    store.close()


def rows(store: Store, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
    with store.unit() as unit:
        return unit.rows(sql, parameters)


@pytest.fixture(scope="module")
def clients(doors: tuple[Server, Server], store: Store) -> Iterator[dict[str, httpx2.Client]]:
    """A client of each role at the first door; the trader has an account, and so has a stranger."""
    made = {role.value: doors[0].client(make_key(doors[0].database_url, f"the {role}", role)) for role in Role}
    make_key(doors[0].database_url, "a stranger", Role.TRADER)
    with store.unit() as unit:
        for account, name in (("UP0001", "the trader"), ("UP0002", "a stranger")):
            unit.run(
                "insert into accounts (id, user_id, broker, calendar, credentials, limit_paise)"
                " select %s, id, 'upstox', 'SIM', '', 0 from users where name = %s",
                (account, name),
            )
    yield made
    for client in made.values():
        client.close()


@pytest.fixture
def admin(clients: dict[str, httpx2.Client]) -> httpx2.Client:
    return clients["admin"]


@pytest.fixture
def operator(clients: dict[str, httpx2.Client]) -> httpx2.Client:
    return clients["operator"]


@pytest.fixture
def trader(clients: dict[str, httpx2.Client]) -> httpx2.Client:
    return clients["trader"]


@pytest.fixture
def there(doors: tuple[Server, Server]) -> Iterator[httpx2.Client]:
    """The trader at the other door."""
    with doors[1].client(make_key(doors[1].database_url, "the trader", Role.TRADER)) as client:
        yield client


def patch(client: httpx2.Client, path: str, body: Any, headers: dict[str, str] | None = None, **more: str) -> httpx2.Response:
    return client.patch(path, json=body, headers={**(headers or a_key()), **more})


def put(client: httpx2.Client, what: str, body: Any, headers: dict[str, str] | None = None, **more: str) -> httpx2.Response:
    return client.put(f"{SWITCHES}/{what}", json=body, headers={**(headers or a_key()), **more})


def faults(answer: httpx2.Response) -> list[tuple[str, str]]:
    assert answer.status_code == 422, answer.text
    return [(fault["pointer"], fault["code"]) for fault in answer.json()["errors"]]


def seconds_until(is_so: Callable[[], bool]) -> float:
    began = time.monotonic()
    while not is_so():
        assert time.monotonic() - began < 20
        time.sleep(0.02)
    return time.monotonic() - began


def test_who_may_read_and_change(clients: dict[str, httpx2.Client]) -> None:
    may = {
        role: (
            client.get(OWN).status_code,
            patch(client, OWN, {"readConsistency": "EVENTUAL"}).status_code,
            client.get(ADMIN).status_code,
            patch(client, ADMIN, {"maxUnsentSec": 120}).status_code,
            client.get(SWITCHES).status_code,
            put(client, "ALL/all", {"mode": "ACTIVE", "reason": "nothing has happened"}).status_code,
        )
        for role, client in clients.items()
    }

    assert may == {
        "trader": (200, 200, 403, 403, 200, 403),
        "auditor": (403, 403, 200, 403, 200, 403),
        "operator": (403, 403, 200, 403, 200, 200),
        "admin": (200, 200, 200, 200, 200, 200),
    }


def test_a_change_is_answered_as_the_whole_document_with_a_new_version(admin: httpx2.Client) -> None:
    before = admin.get(ADMIN)
    assert before.headers["ETag"] == f'"{before.json()["version"]}"'

    after = patch(admin, ADMIN, {"maxUnsentSec": 60, "limits": {"quantityMax": None}}).json()

    assert after["version"] == before.json()["version"] + 1
    assert after["settings"]["maxUnsentSec"] == 60
    assert after["settings"]["limits"]["quantityMax"] is None
    assert after == admin.get(ADMIN).json()
    assert {one["name"]: one["by"] for one in after["changed"]}["limits.quantityMax"] == "the admin admin"
    back = patch(admin, ADMIN, {"reset": ["maxUnsentSec", "limits.quantityMax"]}).json()
    assert (back["settings"]["maxUnsentSec"], back["settings"]["limits"]["quantityMax"]) == (120, 1_000_000)


def test_bad_values_are_told_with_their_places_and_nothing_is_changed(admin: httpx2.Client, trader: httpx2.Client) -> None:
    before = admin.get(ADMIN).json()

    assert faults(patch(admin, ADMIN, {"maxUnsentSec": 60, "limits": {"quantityMax": -1}, "x": 1})) == [("/x", "UNKNOWN_FIELD")]
    assert faults(patch(admin, ADMIN, {"maxUnsentSec": 60, "limits": {"quantityMax": -1}})) == [
        ("/limits/quantityMax", "TOO_SMALL")
    ]
    assert faults(patch(admin, ADMIN, {"fallbackBrokers": ["upstox", "nobody"]})) == [("/fallbackBrokers/1", "NOT_ONE_OF")]
    assert faults(patch(admin, ADMIN, {})) == [("", "TOO_FEW")]
    assert faults(patch(trader, OWN, {"defaultBroker": "zerodha"})) == [("/defaultBroker", "NOT_ONE_OF")]
    assert patch(trader, OWN, {"defaultBroker": "UPSTOX"}).json()["settings"]["defaultBroker"] == "upstox"
    assert admin.patch(ADMIN, content=b'{"maxUnsentSec": 1, "maxUnsentSec": 2}', headers=JSON).json()["code"] == "DUPLICATE_FIELD"
    assert admin.patch(ADMIN, content=b"{", headers={**JSON, **a_key()}).json()["code"] == "MALFORMED_JSON"
    assert admin.patch(ADMIN, json={"maxUnsentSec": 60}).json()["code"] == "IDEMPOTENCY_KEY_MISSING"
    assert admin.get(ADMIN).json() == before


JSON = {"Content-Type": "application/json", "Idempotency-Key": "one-key-for-all-of-these"}


def test_a_stale_version_changes_nothing_and_says_which_one_there_is(admin: httpx2.Client) -> None:
    version = admin.get(ADMIN).json()["version"]

    stale = patch(admin, ADMIN, {"maxUnsentSec": 61}, **{"If-Match": f'"{version - 1}"'})
    good = patch(admin, ADMIN, {"maxUnsentSec": 62}, **{"If-Match": f'"{version}"'})
    odd = patch(admin, ADMIN, {"maxUnsentSec": 63}, **{"If-Match": "*"})

    assert (stale.status_code, stale.json()["code"], stale.json()["version"]) == (409, "STALE_DOCUMENT", version)
    assert (good.status_code, good.json()["version"]) == (200, version + 1)
    assert (odd.status_code, odd.json()["code"]) == (400, "BAD_PARAMETER")
    assert admin.get(ADMIN).json()["settings"]["maxUnsentSec"] == 62
    patch(admin, ADMIN, {"reset": ["maxUnsentSec"]})


def test_a_repeat_gets_the_first_answer_and_is_done_once(admin: httpx2.Client) -> None:
    key = a_key()
    first = patch(admin, ADMIN, {"quantityNothing": 1}, key)
    assert first.status_code == 422, "a refused request uses up no key"
    first = patch(admin, ADMIN, {"dispatchTries": 9}, key)
    patch(admin, ADMIN, {"dispatchTries": 10})

    again = patch(admin, ADMIN, {"dispatchTries": 9}, key)

    assert again.json() == first.json()
    assert again.headers["Idempotency-Replayed"] == "true"
    assert admin.get(ADMIN).json()["settings"]["dispatchTries"] == 10
    assert patch(admin, ADMIN, {"dispatchTries": 11}, key).json()["code"] == "IDEMPOTENCY_KEY_REUSED"
    patch(admin, ADMIN, {"reset": ["dispatchTries"]})


def test_old_and_new_are_in_the_audit_log(admin: httpx2.Client, store: Store) -> None:
    patch(admin, ADMIN, {"limits": {"openOrdersMax": 7}, "cancelPolicy": "FAIL_FAST"})
    patch(admin, ADMIN, {"reset": ["openOrdersMax", "cancelPolicy"]})

    told = rows(store, "select actor, subject, detail from audit_log where action = 'settings.change' order by id desc limit 2")

    assert [row[:2] for row in told] == [("the admin admin", "admin")] * 2
    assert [row[2]["changes"] for row in reversed(told)] == [
        {
            "limits.openOrdersMax": {"old": 1000, "new": 7},
            "cancelPolicy": {"old": "BEST_EFFORT", "new": "FAIL_FAST"},
        },
        {
            "limits.openOrdersMax": {"old": 7, "new": 1000},
            "cancelPolicy": {"old": "FAIL_FAST", "new": "BEST_EFFORT"},
        },
    ]


def test_every_process_heeds_a_change_within_two_seconds(admin: httpx2.Client, trader: httpx2.Client, there: httpx2.Client) -> None:
    two = a_request(a_line(), a_line(correlationId="leg-2"))

    def takes_two(client: httpx2.Client) -> bool:
        return client.post(PLACE, json=two, headers=a_key()).status_code == 202

    assert takes_two(trader)
    assert takes_two(there)
    assert patch(admin, ADMIN, {"maxOrdersPerBatch": 1}).status_code == 200
    took_s = seconds_until(lambda: not takes_two(trader) and not takes_two(there))
    assert patch(admin, ADMIN, {"reset": ["maxOrdersPerBatch"]}).status_code == 200
    back_s = seconds_until(lambda: takes_two(trader) and takes_two(there))

    assert max(took_s, back_s) < WITHIN_S


def test_reads_may_be_as_old_as_the_policy_allows_and_strong_ones_never_are(
    admin: httpx2.Client, trader: httpx2.Client
) -> None:
    patch(admin, ADMIN, {"readPolicy": {"orders": 60}})
    seconds_until(lambda: "Age" in trader.get("/v2/orders?limit=1").headers)
    old = trader.get("/v2/orders?limit=1")

    placed = trader.post(PLACE, json=a_request(), headers=a_key()).json()["orders"][0]["orderId"]
    assert trader.get("/v2/orders?limit=1").json() == old.json()
    patch(trader, OWN, {"readConsistency": "STRONG"})
    seconds_until(lambda: "Age" not in trader.get("/v2/orders?limit=1").headers)

    assert trader.get("/v2/orders?limit=1").json()["orders"][0]["orderId"] == placed
    patch(admin, ADMIN, {"reset": ["readPolicy"]})
    patch(trader, OWN, {"reset": ["readConsistency"]})


def test_at_the_audit_level_all_every_read_is_written_down_before_its_answer(
    admin: httpx2.Client, trader: httpx2.Client, store: Store
) -> None:
    patch(admin, ADMIN, {"auditLevel": "ALL"})

    def is_noted() -> bool:
        path = f"/v2/orders?tag={new_id()}"
        trader.get("/v2/brokers")
        trader.get(path)
        return bool(rows(store, "select 1 from audit_log where action = 'read.list_brokers' and actor = 'the trader trader'"))

    assert seconds_until(is_noted) < WITHIN_S
    patch(admin, ADMIN, {"reset": ["auditLevel"]})
    seconds_until(lambda: _quiet(trader, store))


def _quiet(trader: httpx2.Client, store: Store) -> bool:
    before = rows(store, "select count(*) from audit_log")
    trader.get("/v2/brokers")
    return rows(store, "select count(*) from audit_log") == before


# Switches.

WHY = {"mode": "HALTED", "reason": "it runs away"}


def test_a_traders_reach_is_its_own(trader: httpx2.Client, operator: httpx2.Client, store: Store) -> None:
    own = str(rows(store, "select id from users where name = 'the trader'")[0][0])
    stranger = str(rows(store, "select id from users where name = 'a stranger'")[0][0])

    answers = {
        what: put(trader, what, {**WHY, "mode": "REDUCING"}).status_code
        for what in (
            "USER/me",
            f"user/{own}",
            "ACCOUNT/UP0001",
            "STRATEGY/momentum",
            f"USER/{stranger}",
            "ACCOUNT/UP0002",
            "ACCOUNT/XX9999",
            f"STRATEGY/{stranger}:momentum",
            "ALL/all",
        )
    }

    assert list(answers.values()) == [200, 200, 200, 200, 404, 404, 404, 404, 403]
    seen = {(one["scope"], one["subject"]) for one in trader.get(SWITCHES).json()["switches"]}
    assert {("USER", own), ("ACCOUNT", "UP0001"), ("STRATEGY", f"{own}:momentum")} <= seen
    assert put(operator, "USER/a%20stranger", WHY).json()["subject"] == stranger
    assert ("USER", stranger) not in {(one["scope"], one["subject"]) for one in trader.get(SWITCHES).json()["switches"]}
    for what in ("USER/me", "ACCOUNT/UP0001", "STRATEGY/momentum"):
        put(trader, what, {"mode": "ACTIVE", "reason": "over"})


def test_what_an_operator_has_halted_a_trader_may_not_resume(trader: httpx2.Client, operator: httpx2.Client) -> None:
    assert put(operator, "ACCOUNT/UP0001", WHY).json()["byOperator"]

    refused = put(trader, "ACCOUNT/UP0001", {"mode": "ACTIVE", "reason": "I want to"})

    assert (refused.status_code, refused.json()["code"]) == (403, "NOT_ALLOWED")
    assert put(operator, "ACCOUNT/UP0001", {"mode": "ACTIVE", "reason": "over"}).status_code == 200


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"mode": "HALTED"}, "/reason"),
        ({"mode": "HALTED", "reason": " "}, "/reason"),
        ({"mode": "halted", "reason": "x"}, "/mode"),
        ({"mode": "HALTED", "reason": "x", "cancelOpen": 1}, "/cancelOpen"),
        ({"mode": "HALTED", "reason": "x", "other": 1}, "/other"),
        ({"mode": "ACTIVE", "reason": "x", "cancelOpen": True}, "/cancelOpen"),
        ({"mode": "ACTIVE", "reason": "x", "flatten": True}, "/flatten"),
        ({"reason": "x"}, "/mode"),
    ],
)
def test_a_bad_turn_is_told_with_its_place(trader: httpx2.Client, body: Any, pointer: str) -> None:
    assert [fault[0] for fault in faults(put(trader, "STRATEGY/bad", body))] == [pointer]
    assert "bad" not in str(trader.get(SWITCHES).json())


def test_a_scope_that_there_is_not_is_a_bad_parameter(trader: httpx2.Client) -> None:
    assert put(trader, "EVERYBODY/all", WHY).json()["code"] == "BAD_PARAMETER"
    assert put(trader, "STRATEGY/a%20b", WHY).status_code == 404
    assert put(trader, "USER/%00", WHY).status_code == 404


def test_a_repeated_turn_is_one_turn_and_a_stale_one_none(trader: httpx2.Client) -> None:
    key = a_key()
    first = put(trader, "STRATEGY/once", WHY, key)
    again = put(trader, "STRATEGY/once", WHY, key)

    assert first.json() == again.json()
    assert again.headers["Idempotency-Replayed"] == "true"
    assert first.headers["ETag"] == '"1"'
    assert put(trader, "STRATEGY/once", {**WHY, "mode": "ACTIVE"}, key).json()["code"] == "IDEMPOTENCY_KEY_REUSED"
    stale = put(trader, "STRATEGY/once", WHY, **{"If-Match": '"0"'})
    assert (stale.status_code, stale.json()["code"], stale.json()["version"]) == (409, "STALE_DOCUMENT", 1)


def test_a_halt_ends_what_was_accepted_and_not_sent(trader: httpx2.Client, store: Store) -> None:
    """No stage works here: what is seen is the cancel that the halt has asked for."""
    line = a_line(strategy="doomed")
    order_id = trader.post(PLACE, json=a_request(line), headers=a_key()).json()["orders"][0]["orderId"]

    told = put(trader, "STRATEGY/doomed", WHY)

    assert told.status_code == 200
    asked = "select cancel_requested from orders where id = %s"
    assert seconds_until(lambda: rows(store, asked, order_id) == [(True,)]) < 1.0
    (seen,) = [one for one in trader.get(SWITCHES).json()["switches"] if one["subject"].endswith(":doomed")]
    assert seen["followed"]["unsent"][0]["matched"] == 1
    intent = trader.get(f"/v2/intents/{seen['followed']['unsent'][0]['intentId']}").json()
    assert intent["kind"] == "CANCEL"


# By command.


@pytest.fixture
def command(
    doors: tuple[Server, Server],
    clients: dict[str, httpx2.Client],
    queue_url: str,
    services: SharedServices,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Callable[..., tuple[int, str, str]]:
    """Runs a line of `trader` or `coordinator`; gives its exit code and what it wrote."""
    given = {
        "TRADER_URL": doors[0].url,
        "TRADER_KEY": clients["trader"].headers["Authorization"].removeprefix("Bearer "),
        "DATABASE_URL": doors[0].database_url,
        "RABBITMQ_URL": queue_url,
        "REDIS_URL": services.redis_url,
        "COORDINATOR_SECRET": SECRET,
    }
    for name, value in given.items():
        monkeypatch.setenv(name, value)

    def line(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        tree = {"trader": trader_commands, "coordinator": coordinator_commands}[words[0]]
        code = run(tree(), list(words[1:]))
        told = capsys.readouterr()
        return code, told.out, told.err

    return line


def test_a_trader_halts_and_resumes_by_command(command: Any) -> None:
    code, out, _ = command("trader", "switch", "halt", "strategy", "by-hand", "--reason", "it runs away")
    assert code == 0
    assert "is HALTED: nothing more is sent for it; cancels pass" in " ".join(out.split())

    code, out, _ = command("trader", "switch", "show")
    assert code == 0
    assert "by-hand" in out
    assert "it runs away" in out
    code, out, _ = command("trader", "switch", "resume", "strategy", "by-hand", "--reason", "over", "--json")
    assert code == 0
    assert json.loads(out)["mode"] == "ACTIVE"
    code, _, err = command("trader", "switch", "halt", "all", "--reason", "it runs away")
    assert code == 1
    assert "NOT_ALLOWED" in err
    assert command("trader", "switch", "halt", "account", "--reason", "x")[0] == 2
    assert command("trader", "switch", "halt", "--reason", " ")[0] == 2


def test_an_operator_halts_on_the_database_and_a_trader_cannot_resume(command: Any) -> None:
    code, out, _ = command(
        "coordinator", "switch", "halt", "strategy", "the trader:by-desk", "--reason", "enough", "--operator", "asha", "--json"
    )
    assert code == 0
    document = json.loads(out)
    assert (document["mode"], document["by"], document["byOperator"]) == ("HALTED", "asha", True)
    assert document["carriedOutAt"] is not None
    code, _, err = command("trader", "switch", "resume", "strategy", "by-desk", "--reason", "please")
    assert (code, "NOT_ALLOWED" in err) == (1, True)
    assert command("coordinator", "switch", "resume", "strategy", "the trader:by-desk", "--reason", "over")[0] == 0
    code, _, err = command("coordinator", "switch", "halt", "user", "nobody at all", "--reason", "x")
    assert (code, "NOT_FOUND" in err) == (1, True)
    code, out, _ = command("coordinator", "switch", "show", "--json")
    assert "by-desk" in str(json.loads(out)["switches"])


def test_settings_are_shown_set_and_reset_by_command(command: Any, admin: httpx2.Client) -> None:
    code, out, _ = command("coordinator", "settings", "show", "quantityMax")
    assert code == 0
    assert "limits.quantityMax = 1000000" in out
    assert "0 to 1,000,000,000; null for none; default 1000000" in out
    assert command("coordinator", "settings", "set", "limits.quantityMax", "none")[0] == 0
    assert admin.get(ADMIN).json()["settings"]["limits"]["quantityMax"] is None
    code, _, err = command("coordinator", "settings", "set", "quantityMax", "many")
    assert code == 1
    assert "limits/quantityMax" in err
    assert command("coordinator", "settings", "reset", "quantityMax")[0] == 0
    assert command("coordinator", "settings", "set", "nonsense", "1")[0] == 2

    assert command("trader", "settings", "set", "allowPartialMultiOrder", "false")[0] == 0
    code, out, _ = command("trader", "settings", "show", "--json")
    assert json.loads(out)["settings"]["allowPartialMultiOrder"] is False
    code, _, err = command("trader", "settings", "set", "defaultBroker", "zerodha")
    assert (code, "NOT_ONE_OF" in err) == (1, True)
    assert command("trader", "settings", "reset", "allowPartialMultiOrder")[0] == 0
