"""Upstox's envelope and its errors, each key in both spellings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from brokers.simulator.web import Answer, json_answer


@dataclass(frozen=True, slots=True)
class Problem:
    """One entry of `errors`."""

    code: str
    message: str
    path: str | None = None
    value: Any = None
    status: int = 400

    def row(self, **extra: Any) -> dict[str, Any]:
        return {
            "errorCode": self.code,
            "message": self.message,
            "propertyPath": self.path,
            "invalidValue": self.value,
            "error_code": self.code,
            "property_path": self.path,
            "invalid_value": self.value,
            **extra,
        }


class Refused(Exception):
    """The request is answered with these problems, and nothing was done."""

    def __init__(self, *problems: Problem) -> None:
        super().__init__("; ".join(problem.message for problem in problems))
        self.problems = problems


def success(data: Any, *, latency_ms: int | None = None, **extra: Any) -> Answer:
    content: dict[str, Any] = {"status": "success", "data": data, **extra}
    if latency_ms is not None:
        content["metadata"] = {"latency": latency_ms}
    return json_answer(content)


def failure(problems: Sequence[Problem]) -> Answer:
    rows = [problem.row() for problem in problems]
    return json_answer({"status": "error", "errors": rows}, problems[0].status)


def summed_up(
    data: Any, errors: Sequence[dict[str, Any]], summary: dict[str, int], *, metadata: dict[str, Any] | None = None
) -> Answer:
    """The answer to a request for many: 200 for all, 207 for some, 400 for none."""
    if not errors:
        status, word = 200, "success"
    elif summary["success"]:
        status, word = 207, "partial_success"
    else:
        status, word = 400, "error"
    content = {"status": word, "data": data, "errors": list(errors) or None, "summary": summary, **(metadata or {})}
    return json_answer(content, status)


UNKNOWN_PATH = Problem("UDAPI100060", "Resource not Found.", status=404)
DEAD_TOKEN = Problem("UDAPI100050", "Invalid token used to access API", status=401)
RATE_LIMITED = Problem("UDAPI10005", "Too Many Request Sent", status=429)
NO_SUCH_ORDER = Problem("UDAPI100010", "The order id is not found or is invalid", "order_id")
NOT_CANCELLABLE = Problem("UDAPI100040", "Order already cancelled/rejected/completed", "order_id")
NOT_MODIFIABLE = Problem("UDAPI100041", "Order already cancelled/rejected/completed", "order_id")
BAD_INPUT = Problem("UDAPI100036", "Invalid Input")
NOT_JSON = Problem("UDAPI100036", "The request body is not valid JSON")
