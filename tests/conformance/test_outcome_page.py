"""docs/outcomes.md tells what the tables say."""

from __future__ import annotations

from outcome_page import ERRORS, PAGE, page


def test_the_page_is_as_the_tables_are():
    assert PAGE.read_text(encoding="utf-8") == page(), (
        "write it anew: .venv/bin/python tests/conformance/outcome_page.py"
    )


def test_an_error_means_the_same_in_every_call_that_documents_it():
    """So that the page can have one row for it."""
    for tables in ERRORS.values():
        for code in {code for table in tables.values() for code in table}:
            assert len({table[code] for table in tables.values() if code in table}) == 1, code
