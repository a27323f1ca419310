"""`python -m ops.settings.page` writes docs/settings.md from the settings themselves; a test holds the two together."""

from __future__ import annotations

from pathlib import Path

from domain.setting_names import Document, describe
from domain.settings import Settings, UserSettings
from ops.settings.look import in_words

PAGE = Path(__file__).resolve().parents[2] / "docs" / "settings.md"
HEAD = """\
# Settings

Written by `python -m ops.settings.page` from `domain/settings.py`; change it there.

Every change is checked, has who made it, the old and the new value in the audit log, and counts in every process within two
seconds, without a restart. A document has one version: send it as `If-Match`, and a change that somebody else has overtaken is
refused with 409 `STALE_DOCUMENT`. `null` means no limit where a range says so; `reset` takes a setting back to its default.

## For all

`GET` and `PATCH /v2/admin/settings` (an admin changes, operators and auditors read), or `coordinator settings show | set | reset`:

    coordinator settings show limits.quantityMax
    coordinator settings set limits.quantityMax 5000
    coordinator settings set strategyBrokers '{"momentum": "zerodha"}'
    coordinator settings reset limits.quantityMax

"""
USERS = """
## Each user's own

`GET` and `PATCH /v2/settings`, or `trader settings show | set | reset`:

    trader settings set defaultBroker zerodha
    trader settings set allowPartialMultiOrder false

"""
TAIL = """
An order's broker is the one that it names, else the user's default, else its strategy's (`strategyBrokers`), else the first of
`fallbackBrokers` at which the user has an account; of these the first that can take it. A user's default is `defaultBroker`; where
none is chosen, the account that was set up as the user's default. Of several accounts at one broker that account comes first, then
the order of their ids.

`readPolicy` says how old an answer may be, such as `{"orders": 2, "trades": 5}` for two and five seconds. An answer that is not read anew has
`Age`, in seconds. A user whose `readConsistency` is STRONG gets no such answer.

At `auditLevel` ALL every authenticated `GET` is in the audit log before it is answered; while it can't be written down, it is refused.
"""


def page() -> str:
    return HEAD + _table(Settings) + USERS + _table(UserSettings) + TAIL


def _table(document: Document) -> str:
    rows = ["| Setting | Meaning | Unit | Range | Default |", "|---|---|---|---|---|"]
    for one in describe(document):
        default = in_words(one.default)
        rows.append(f"| `{one.name}` | {one.meaning} | {one.unit} | {one.range} | `{default}` |")
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
