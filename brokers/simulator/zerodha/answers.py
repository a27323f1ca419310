"""Zerodha's envelope and its errors."""

from __future__ import annotations

from typing import Any

from brokers.simulator.web import Answer, json_answer


class Refused(Exception):
    """The request is answered with this error, of the type by which Zerodha's own client raises it."""

    def __init__(self, kind: str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.kind, self.message, self.status = kind, message, status

    def row(self) -> dict[str, Any]:
        """As an autosliced child tells it."""
        return {"code": self.status, "error_type": self.kind, "message": self.message, "data": None}


def success(data: Any) -> Answer:
    return json_answer({"status": "success", "data": data})


def failure(refused: Refused) -> Answer:
    content = {"status": "error", "message": refused.message, "data": None, "error_type": refused.kind}
    return json_answer(content, refused.status)


def bad_input(message: str) -> Refused:
    return Refused("InputException", message)


DEAD_TOKEN = Refused("TokenException", "Incorrect `api_key` or `access_token`.", 403)
RATE_LIMITED = Refused("NetworkException", "Too many requests", 429)
UNKNOWN_PATH = Refused("GeneralException", "Route not found", 404)
NO_SUCH_ORDER = Refused("GeneralException", "Couldn't find that `order_id`.", 400)
BEING_PROCESSED = bad_input("Order cannot be modified as it is being processed. Try later.")
TOO_MANY_CHANGES = bad_input("Maximum allowed order modifications exceeded.")
NO_PROTECTION = bad_input(
    "Market orders without market protection are not allowed via API. Set `market_protection` or use a LIMIT order."
)
TIMED_OUT = Refused(
    "NetworkException",
    "Order request timed out. Please check the order book and confirm before placing again.",
    400,
)
IP_NOT_REGISTERED = Refused(
    "PermissionException",
    "IP (203.0.113.9) is not allowed to place orders for this app. Update allowed IPs on the Kite developer console.",
    403,
)
