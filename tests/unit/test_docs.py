"""The pages name files, folders and tests; all of them are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ingress.problems import CODES

PROJECT = Path(__file__).resolve().parents[2]
PAGES = sorted([*PROJECT.glob("*.md"), *PROJECT.glob("docs/**/*.md")])
LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")
NAMED = re.compile(r"`((?:[a-z_]+/)+[\w.-]+\.(?:py|md|csv|json|sh|lua))`")
CODE_ROWS = re.compile(r"^\| ([0-9]{3}) \| `([A-Z_]+)` \|", re.MULTILINE)
COMMANDS = re.compile(r"`(?:\.venv/bin/python -m )?pytest ([^`]+)`")
MADE_BY_RUNNING = (".run/",)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
def test_what_a_page_names_is_there(page: Path):
    text = page.read_text()
    links = {page.parent / link for link in LINK.findall(text)}
    named = {PROJECT / name for name in NAMED.findall(text) if not name.startswith(MADE_BY_RUNNING)}
    tests = {PROJECT / word for told in COMMANDS.findall(text) for word in told.split() if word.startswith("tests/")}

    assert sorted(str(path) for path in links | named | tests if not path.exists()) == []


def test_the_index_leads_to_every_page():
    linked = set(LINK.findall((PROJECT / "docs" / "index.md").read_text()))

    assert {page.name for page in PROJECT.glob("docs/*.md")} - {"index.md"} <= linked


def test_the_page_on_rest_lists_every_error_code_with_its_status():
    listed = CODE_ROWS.findall((PROJECT / "docs" / "rest.md").read_text())

    assert [(code, int(status)) for status, code in listed] == [(code, status) for code, (status, _) in CODES.items()]
