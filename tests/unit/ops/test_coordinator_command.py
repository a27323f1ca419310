from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from domain.errors import NotFound, Refused
from ops import dlq
from ops.checkup.database import check_clock, check_partitions, check_role, check_schema, check_work, clock_skew
from ops.checkup.finding import Level
from ops.checkup.machine import check_disk, check_processes, check_python
from ops.checkup.queue import QueueFacts, check_consumers, check_letters, check_queues
from ops.surroundings import look_around

ORDER_ID = "01a20457-fe20-73b1-8f11-d40aaaaaaaa1"
HEALTHY = QueueFacts(ready=0, consumers=2, fits=True, dead=0)


@dataclass(frozen=True)
class Stuck:
    order_id: str
    stage: str
    error: str
    since: datetime = datetime(2026, 11, 23, 4, 45, tzinfo=UTC)
    attempts: int = 5
    deaths: int = 0
    state: str = "RECEIVED"
    side: str = "BUY"
    quantity: int = 10
    instrument: str = "NSE:INFY"
    broker: str | None = None


class MayHaveBeenSent(Refused):
    code = "MAY_HAVE_BEEN_SENT"


class FakeLetters:
    """The dead letters' interface over a list; an order in `sent` is refused as one that a broker may have."""

    def __init__(self, *items):
        self.items, self.done, self.sent = list(items), [], set()

    def list_stuck(self, desk, stage=None):
        return [item for item in self.items if stage in (None, item.stage)]

    def show(self, desk, order_id):
        found = [item for item in self.items if item.order_id == order_id]
        if not found:
            raise NotFound("stuck order", order_id)
        return {"item": found[0], "events": [{"seq": 0, "type": "RECEIVED"}], "attempts": []}

    def requeue(self, desk, order_id, operator, reason):
        return self._end("requeue", order_id, operator, reason)

    def discard(self, desk, order_id, operator, reason):
        return self._end("discard", order_id, operator, reason)

    def _end(self, what, order_id, operator, reason):
        if order_id in self.sent:
            raise MayHaveBeenSent(f"attempt 1 of order {order_id} ended without an outcome")
        self.done.append((what, order_id, operator, reason))
        return self.show(None, order_id)["item"].stage


@pytest.fixture
def letters(monkeypatch):
    fake = FakeLetters(Stuck(ORDER_ID, "margin", "KeyError: no margin rule"))

    @contextmanager
    def no_desk():
        yield None

    monkeypatch.setattr(dlq, "open_desk", no_desk)
    monkeypatch.setattr(dlq, "_offered", lambda: fake)
    return fake


# dead letters


def test_what_is_stuck_is_listed_with_its_error(letters, run_coordinator):
    ran = run_coordinator("dlq", "list")

    assert ran.code == 0
    assert ORDER_ID[-8:] in ran.out
    assert "KeyError: no margin rule" in ran.out
    assert run_coordinator("dlq", "list", "--json").document["stuck"][0]["orderId"] == ORDER_ID


def test_a_stage_with_nothing_stuck_says_so(letters, run_coordinator):
    assert run_coordinator("dlq", "list", "--stage", "risk", "--json").document == {"stuck": []}
    assert "nothing is stuck" in run_coordinator("dlq", "list", "--stage", "risk").out


def test_a_stuck_order_is_shown_by_the_end_of_its_id(letters, run_coordinator):
    ran = run_coordinator("dlq", "show", "aaaaaaa1", "--json")

    assert ran.document["item"]["orderId"] == ORDER_ID
    assert ran.document["item"]["since"] == "2026-11-23T04:45:00Z"


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
