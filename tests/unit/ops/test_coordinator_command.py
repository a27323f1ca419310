from __future__ import annotations

import json
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace

import pytest
from psycopg.errors import LockNotAvailable

from domain.errors import NotFound
from domain.lifecycle import OrderState
from domain.settlements import NotTaken, Taken
from ops.checkup.database import check_clock, check_partitions, check_role, check_schema, check_work, clock_skew
from ops.checkup.finding import Level
from ops.checkup.machine import check_disk, check_processes, check_python
from ops.checkup.queue import QueueFacts, check_consumers, check_letters, check_queues
from ops.dlq import here
from ops.surroundings import look_around
from pipeline import deadletters, stuck
from pipeline.drain import Drained
from pipeline.refusals import MayHaveBeenSent
from readmodel.queries import Page

ORDER_ID = "01a20457-fe20-73b1-8f11-d40aaaaaaaa1"
HEALTHY = QueueFacts(ready=0, consumers=2, fits=True, dead=0)


def an_item(order_id, stage, error, **changes):
    item = {"orderId": order_id, "kind": "PLACE", "stage": stage, "work": "STUCK", "state": "RECEIVED", "error": error}
    item |= {"attempts": 5, "deaths": 0, "since": "2026-11-23T04:45:00.000000Z", "instrument": "NSE:INFY", "side": "BUY"}
    item |= {"quantity": 10, "filledQuantity": 0, "broker": None, "account": None, "brokerTag": "OC1"}
    return {**item, "brokerOrderId": None, "buriedAt": None, "parked": None, **changes}


class FakeLetters:
    """The operators' desk over a list; an order in `sent` is refused as one that a broker may have."""

    def __init__(self, *items):
        self.items, self.done, self.sent, self.tidied = list(items), [], set(), []

    def list_stuck(self, desk, wanted, *, limit=1_000, after=None):
        return Page([item for item in self.items if self.is_wanted(item, wanted)], None)

    def is_wanted(self, item, wanted):
        error = wanted.error is None or wanted.error.lower() in item["error"].lower()
        return item["work"] in wanted.states and wanted.stage in (None, item["stage"]) and error

    def count_stuck(self, desk, wanted):
        return len(self.list_stuck(desk, wanted).rows)

    def explain(self, desk, order_id):
        found = [item for item in self.items if item["orderId"] == order_id]
        if not found:
            raise NotFound("stuck order", order_id)
        acts = [{"act": "requeue", "allowed": True, "why": "It goes back."}, {"act": "settle", "allowed": False, "why": "No."}]
        events = [{"seq": 0, "type": "RECEIVED", "at": "2026-11-23T04:45:00Z", "source": "CLIENT", "detail": {}}]
        return {"item": found[0], "why": "It failed.", "acts": acts, "search": None, "events": events, "calls": []}

    def act(self, what):
        def do(desk, order_id, by, *more):
            if order_id in self.sent:
                raise MayHaveBeenSent(f"attempt 1 of order {order_id} ended without an outcome")
            self.done.append((what, order_id, by.operator, by.reason, *more))
            stage = self.explain(None, order_id)["item"]["stage"]
            return {"orderId": order_id, "from": stage, "stage": stage, "state": "RECEIVED", "until": None}

        return do

    def drain(self, desk, what, wanted, by, *, dry=False, told):
        drained = Drained()
        for item in self.list_stuck(desk, wanted).rows:
            refused = [{"orderId": item["orderId"], "code": "MAY_HAVE_BEEN_SENT", "detail": "it may be there"}]
            is_sent = item["orderId"] in self.sent
            drained.add({"done": [] if is_sent else [item["orderId"]], "refused": refused if is_sent else []})
            told(drained)
            self.done += [] if dry or is_sent else [(what, item["orderId"], by.operator, by.reason)]
        return drained


@pytest.fixture
def letters(monkeypatch):
    fake = FakeLetters(an_item(ORDER_ID, "margin", "KeyError: no margin rule"))

    @contextmanager
    def no_desk():
        yield SimpleNamespace(now=lambda: datetime(2026, 11, 25, 10, tzinfo=UTC))

    monkeypatch.setattr(here, "open_desk", no_desk)
    for name in ("list_stuck", "count_stuck", "explain"):
        monkeypatch.setattr(stuck, name, getattr(fake, name))
    for name in ("requeue", "discard", "park", "unpark", "settle"):
        monkeypatch.setattr(deadletters, name, fake.act(name))
    monkeypatch.setattr("pipeline.drain.drain", fake.drain)
    monkeypatch.setattr("pipeline.letters.tidy", lambda desk, stages: fake.tidied.append(list(stages)))
    return fake


# dead letters


def test_what_is_stuck_is_listed_with_its_error(letters, run_coordinator):
    ran = run_coordinator("dlq", "list")

    assert ran.code == 0
    assert ORDER_ID[-8:] in ran.out
    assert "KeyError: no margin rule" in ran.out
    assert run_coordinator("dlq", "list", "--json").document["stuck"][0]["orderId"] == ORDER_ID


def test_a_lock_that_the_database_did_not_give_in_time_is_told_as_one(letters, run_coordinator, monkeypatch):
    def list_stuck(*_given, **_more):
        raise LockNotAvailable("canceling statement due to lock timeout")

    monkeypatch.setattr(stuck, "list_stuck", list_stuck)
    ran = run_coordinator("dlq", "list", "--json")

    assert ran.code == 1
    assert ran.document["code"] == "STORE_UNAVAILABLE"
    assert "the database is busy" in run_coordinator("dlq", "list").err


def test_a_stage_with_nothing_stuck_says_so(letters, run_coordinator):
    assert run_coordinator("dlq", "list", "--stage", "risk", "--json").document == {"stuck": [], "next": None}
    assert "nothing is stuck" in run_coordinator("dlq", "list", "--stage", "risk").out


def test_the_unknown_are_listed_apart_and_told_of(letters, run_coordinator):
    letters.items.append(an_item("0" * 36, "persist", "timed out", work="UNKNOWN", state="UNKNOWN"))

    assert "1 unknown: coordinator dlq list --unknown" in run_coordinator("dlq", "list").err
    listed = run_coordinator("dlq", "list", "--unknown", "--json").document["stuck"]
    assert [item["error"] for item in listed] == ["timed out"]


def test_a_list_is_narrowed_by_the_error(letters, run_coordinator):
    assert "KeyError" in run_coordinator("dlq", "list", "--error", "MARGIN rule").out
    assert "nothing is stuck that matches" in run_coordinator("dlq", "list", "--error", "tick").out


def test_a_stuck_order_is_shown_by_the_end_of_its_id(letters, run_coordinator):
    ran = run_coordinator("dlq", "show", "aaaaaaa1", "--json")

    assert ran.document["item"]["orderId"] == ORDER_ID
    assert "RECEIVED" in run_coordinator("dlq", "show", "aaaaaaa1").out


def test_an_explanation_says_why_and_what_may_be_done(letters, run_coordinator):
    told = run_coordinator("dlq", "explain", "aaaaaaa1").out

    assert "It failed." in told
    assert "✓ requeue It goes back." in told
    assert "✗ settle  No." in told


def test_requeueing_records_who_and_why(letters, run_coordinator):
    ran = run_coordinator("dlq", "requeue", "aaaaaaa1", "--reason", "rule added", "--operator", "asha")

    assert ran.code == 0
    assert letters.done == [("requeue", ORDER_ID, "asha", "rule added")]


@pytest.mark.parametrize("command", ["requeue", "discard"])
def test_no_reason_no_deed(letters, run_coordinator, command):
    assert run_coordinator("dlq", command, ORDER_ID).code == 2
    assert run_coordinator("dlq", command, ORDER_ID, "--reason", "  ", *(["--yes"] * (command == "discard"))).code == 2
    assert letters.done == []


def test_discarding_wants_a_yes(letters, run_coordinator):
    refused = run_coordinator("dlq", "discard", ORDER_ID, "--reason", "typo")
    assert (refused.code, letters.done) == (2, [])
    assert "--yes" in refused.err

    assert run_coordinator("dlq", "discard", ORDER_ID, "--reason", "typo", "--yes", "--operator", "asha").code == 0
    assert letters.done == [("discard", ORDER_ID, "asha", "typo")]


def test_what_is_parked_for_a_time_comes_back_by_itself(letters, run_coordinator):
    ran = run_coordinator("dlq", "park", "aaaaaaa1", "--for", "2h", "--reason", "asked the broker", "--operator", "asha")

    until = datetime(2026, 11, 25, 10, tzinfo=UTC) + timedelta(hours=2)
    assert ran.code == 0
    assert letters.done == [("park", ORDER_ID, "asha", "asked the broker", until)]
    assert run_coordinator("dlq", "park", "aaaaaaa1", "--for", "soon", "--reason", "x").code == 2


SETTLE = ("dlq", "settle", "aaaaaaa1", "--evidence", "book", "--reason", "stuck", "--operator", "asha")


@pytest.mark.parametrize(
    ("words", "settlement"),
    [
        (("--not-taken",), NotTaken()),
        (("--not-taken", "--resend"), NotTaken(resend=True)),
        (("--broker-order-id", "7", "--state", "open"), Taken(broker_order_id="7", state=OrderState.OPEN)),
        (
            ("--broker-order-id", "7", "--state", "FILLED", "--average", "1500.05"),
            Taken(
                broker_order_id="7", state=OrderState.FILLED, filled_quantity=10, average_price=Decimal("1500.05")
            ),
        ),
    ],
)
def test_a_settlement_is_handed_on_as_it_was_said(letters, run_coordinator, words, settlement):
    assert run_coordinator(*SETTLE, *words).code == 2  # without --yes
    assert run_coordinator(*SETTLE, *words, "--yes").code == 0

    assert letters.done == [("settle", ORDER_ID, "asha", "stuck", "book", settlement)]


@pytest.mark.parametrize(
    "words", [(), ("--not-taken", "--broker-order-id", "7"), ("--broker-order-id", "7"), ("--broker-order-id", "7", "--state", "SENDING")]
)
def test_a_settlement_says_one_thing(letters, run_coordinator, words):
    assert run_coordinator(*SETTLE, *words, "--yes").code == 2
    assert letters.done == []


def test_a_drain_asks_first_and_tells_what_it_would_do(letters, run_coordinator):
    refused = run_coordinator("dlq", "drain", "requeue", "--reason", "mended")
    foretold = run_coordinator("dlq", "drain", "requeue", "--reason", "mended", "--dry-run")

    assert (refused.code, foretold.code, letters.done) == (2, 0, [])
    assert "--yes" in refused.err
    assert "1 would be sent back" in foretold.out


def test_a_drain_tells_what_it_refused_and_exits_with_an_error(letters, run_coordinator):
    other = "0" * 28 + "bbbbbbb2"
    letters.items.append(an_item(other, "dispatch.upstox", "timed out"))
    letters.sent.add(other)

    ran = run_coordinator("dlq", "drain", "discard", "--reason", "over", "--operator", "asha", "--yes")

    assert ran.code == 1
    assert "1 given up" in ran.out
    assert "bbbbbbb2  MAY_HAVE_BEEN_SENT: it may be there" in ran.out
    assert letters.done == [("discard", ORDER_ID, "asha", "over")]


def test_what_may_have_been_sent_is_refused_in_the_desks_own_words(letters, run_coordinator):
    letters.sent.add(ORDER_ID)

    ran = run_coordinator("dlq", "requeue", ORDER_ID, "--reason", "again", "--json")

    assert ran.code == 1
    assert ran.document["code"] == "MAY_HAVE_BEEN_SENT"
    assert "ended without an outcome" in ran.err


def test_an_order_that_is_not_stuck_is_not_found(letters, run_coordinator):
    assert run_coordinator("dlq", "show", "zzz", "--json").document["code"] == "NOT_FOUND"


def test_without_servers_the_missing_setting_is_named(run_coordinator, monkeypatch):
    for name in ("DATABASE_URL", "RABBITMQ_URL", "REDIS_URL", "COORDINATOR_SECRET"):
        monkeypatch.delenv(name, raising=False)

    ran = run_coordinator("dlq", "list")

    assert ran.code == 2
    assert "DATABASE_URL isn't set" in ran.err


# surroundings


def test_a_running_stack_tells_its_servers(tmp_path):
    stack = {"database_url": "postgresql://d", "owner_database_url": "postgresql://o", "queue_url": "amqp://q"}
    stack |= {"redis_url": "redis://r", "base_url": "http://w", "processes": {"web": 1}}
    (tmp_path / ".run").mkdir()
    (tmp_path / ".run" / "stack.json").write_text(json.dumps(stack))
    (tmp_path / ".run" / "secret").write_text("s3cret")
    environment: dict[str, str] = {}

    around = look_around(environment, tmp_path)
    around.adopt(environment)

    assert environment["RABBITMQ_URL"] == "amqp://q"
    assert environment["COORDINATOR_SECRET"] == "s3cret"
    assert around.owner_url == "postgresql://o"
    assert "s3cret" not in repr(around)


def test_a_database_named_by_the_environment_is_never_mixed_with_a_stack(tmp_path):
    (tmp_path / ".run").mkdir()
    (tmp_path / ".run" / "stack.json").write_text(
        json.dumps({"queue_url": "amqp://q", "database_url": "postgresql://d"})
    )

    around = look_around({"DATABASE_URL": "postgresql://other"}, tmp_path)

    assert around.database_url == "postgresql://other"
    assert around.queue_url == ""


# the doctor


def test_the_doctor_fails_with_a_mend_where_nothing_is_configured(run_coordinator, monkeypatch):
    for name in ("DATABASE_URL", "RABBITMQ_URL", "REDIS_URL", "COORDINATOR_SECRET"):
        monkeypatch.delenv(name, raising=False)

    ran = run_coordinator("doctor", "--json")

    assert ran.code == 1
    assert ran.document["healthy"] is False
    settings = next(check for check in ran.document["checks"] if check["name"] == "settings")
    assert settings["level"] == "fail"
    assert "coordinator up" in settings["mend"]


def test_the_doctor_tells_each_server_that_is_away_and_goes_on(run_coordinator, monkeypatch):
    monkeypatch.setenv("DATABASE_URL", "postgresql://app:x@127.0.0.1:1/none")
    monkeypatch.setenv("RABBITMQ_URL", "amqp://guest:guest@127.0.0.1:1/")
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/0")
    monkeypatch.setenv("COORDINATOR_SECRET", "x")

    ran = run_coordinator("doctor", "--json")

    levels = {check["name"]: check["level"] for check in ran.document["checks"]}
    assert levels["settings"] == "ok"
    assert [levels[name] for name in ("database", "queue", "redis")] == ["fail"] * 3
    assert all(check["mend"] for check in ran.document["checks"] if check["level"] != "ok")


@pytest.mark.parametrize(
    ("skew_s", "exactness_s", "level"),
    [(0.25, 0.0, "ok"), (-0.26, 0.0, "warn"), (0.3, 0.1, "ok"), (2.1, 0.0, "fail"), (-2.2, 0.15, "fail")],
)
def test_a_clock_is_judged_by_what_it_surely_differs(skew_s, exactness_s, level):
    assert check_clock(skew_s, exactness_s).level == level


def test_the_skew_is_taken_from_the_quickest_answer():
    skew_s, exactness_s = clock_skew(lambda sql: [(datetime.now(UTC),)])

    assert abs(skew_s) <= exactness_s + 0.001


@pytest.mark.parametrize(
    ("finding", "level"),
    [
        (check_schema("0001", "0001"), "ok"),
        (check_schema(None, "0001"), "fail"),
        (check_schema("0001", "0002"), "fail"),
        (check_role("app", []), "ok"),
        (check_role("owner", ["owns tables"]), "fail"),
        (check_partitions(None), "warn"),
        (check_python((3, 10)), "fail"),
        (check_python((3, 11)), "ok"),
        (check_disk(199 * 1024**2, Path()), "fail"),
        (check_disk(1024**3, Path()), "warn"),
        (check_disk(2 * 1024**3, Path()), "ok"),
        (check_processes({"web": True, "clock": False}), "fail"),
        (check_queues({"risk": HEALTHY}), "ok"),
        (check_queues({"risk": None}), "fail"),
        (check_queues({"risk": QueueFacts(0, 1, fits=False, dead=0)}), "fail"),
        (check_consumers({"risk": HEALTHY}), "ok"),
        (check_consumers({"risk": QueueFacts(0, 0, fits=True, dead=0)}), "fail"),
        (check_consumers({"risk": QueueFacts(1_001, 1, fits=True, dead=0)}), "warn"),
        (check_consumers({"risk": None}), "fail"),
        (check_letters({"risk": HEALTHY, "margin": None}), "ok"),
        (check_letters({"risk": QueueFacts(0, 1, fits=True, dead=1)}), "warn"),
    ],
)
def test_each_thing_is_judged_at_its_edge_and_what_is_not_well_has_a_mend(finding, level):
    assert finding.level == level
    assert finding.level is Level.OK or finding.mend


def test_stuck_unknown_and_overdue_work_are_told_apart():
    findings = list(check_work({"STUCK": (2, 60.0), "UNKNOWN": (1, 90.0), "READY": (7, 12.0)}))

    assert [finding.told for finding in findings] == [
        "2 stuck",
        "1 unknown, the oldest for 90 s",
        "7 due for more than 5 s, the oldest for 12 s",
    ]


# the rest


def test_migrating_without_an_owner_says_which_setting_is_missing(run_coordinator, monkeypatch):
    for name in ("DATABASE_URL", "OWNER_DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)

    assert "OWNER_DATABASE_URL isn't set" in run_coordinator("migrate").err


def test_migrating_a_database_that_is_away_is_an_error_without_a_traceback(run_coordinator, monkeypatch):
    monkeypatch.setenv("OWNER_DATABASE_URL", "postgresql://owner:x@127.0.0.1:1/none")

    ran = run_coordinator("migrate", "--json")

    assert ran.code == 1
    assert ran.document["code"] == "MIGRATION_FAILED"


def test_up_down_and_status_are_the_stacks_own(run_coordinator, monkeypatch):
    called = []
    monkeypatch.setattr("ops.commands.up", lambda *, detached: called.append(("up", detached)) or 0)
    monkeypatch.setattr("ops.commands.down", lambda: called.append(("down",)) or 0)
    monkeypatch.setattr("ops.commands.status", lambda *, as_json: called.append(("status", as_json)) or 1)

    codes = [run_coordinator(*words).code for words in (["up", "--detach"], ["down"], ["status", "--json"])]

    assert codes == [0, 0, 1]
    assert called == [("up", True), ("down",), ("status", True)]
