"""`coordinator reconcile`: asks, follows, and shows what differs."""

from __future__ import annotations

from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from domain.errors import NotFound
from ops.checkup.database import check_differences
from ops.dlq import here
from pipeline import reconcile

ORDER_ID = "01a20457-fe20-73b1-8f11-d40aaaaaaaa1"
FINDING = {
    "account": "UP0001",
    "broker": "upstox",
    "kind": "MISSING",
    "subject": ORDER_ID,
    "ours": "OPEN, 0 of 10 filled",
    "theirs": "not in the book",
    "foundAt": "2026-11-25T10:00:00+00:00",
    "seenAt": "2026-11-25T10:01:00+00:00",
}
STRAY = {"account": "UP0001", "brokerOrderId": "B7", "kind": "TWIN", "tag": "OC1", "orderId": ORDER_ID, "status": "open"}


class Office:
    """The reconciler over a list of what each look at its progress shows; the last goes on."""

    def __init__(self):
        self.asked, self.outcomes, self.findings, self.strays = [], [("AGREES", True)], [], []

    def wanted(self, desk, *, broker, account):
        if account == "NOBODY":
            raise NotFound("account", account)
        return [account or f"{broker or 'any'}-1"]

    def ask(self, desk, account_ids):
        self.asked.append(list(account_ids))

    def overview(self, desk, account_ids):
        outcome, done = self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]
        rows = [{"account": id_, "broker": "upstox", "outcome": outcome, "done": done} for id_ in account_ids]
        return {"accounts": rows, "findings": self.findings, "strays": self.strays}


@pytest.fixture
def office(monkeypatch):
    fake = Office()

    @contextmanager
    def no_desk():
        yield SimpleNamespace()

    monkeypatch.setattr(here, "open_desk", no_desk)
    for name in ("wanted", "ask", "overview"):
        monkeypatch.setattr(reconcile, name, getattr(fake, name))
    return fake


def test_a_comparison_is_followed_to_its_end(office, run_coordinator):
    office.outcomes = [(None, False), ("SUSPECTS", False), ("AGREES", True)]

    ran = run_coordinator("reconcile", "--broker", "UPSTOX", "--json")

    assert (ran.code, office.asked) == (0, [["upstox-1"]])
    assert ran.document["done"]
    assert ran.document["accounts"][0]["outcome"] == "AGREES"


def test_what_differs_is_shown_and_exits_with_1(office, run_coordinator):
    office.findings, office.strays = [FINDING], [STRAY]

    ran = run_coordinator("reconcile", "--account", "UP0001")

    assert ran.code == 1
    assert "aaaaaaa1" in ran.out
    assert "not in the book" in ran.out
    assert "1 strays" in ran.out


def test_one_that_is_not_done_in_time_is_named(office, run_coordinator):
    office.outcomes = [("WAITS", False)]

    ran = run_coordinator("reconcile", "--timeout", "0")

    assert ran.code == 1
    assert "not done yet: any-1" in ran.err


def test_one_that_could_not_be_compared_exits_with_1(office, run_coordinator):
    office.outcomes = [("UNREADABLE", True)]

    assert run_coordinator("reconcile").code == 1


def test_an_account_that_is_not_there_is_told(office, run_coordinator):
    assert run_coordinator("reconcile", "--account", "NOBODY").code == 1
    assert office.asked == []


def test_the_doctor_tells_of_findings_and_strays():
    assert check_differences({"findings": 0, "strays": 0}).level == "ok"
    finding = check_differences({"findings": 2, "strays": 1})
    assert (finding.level, finding.told.startswith("2 findings, 1 strays"), finding.mend != "") == ("warn", True, True)
