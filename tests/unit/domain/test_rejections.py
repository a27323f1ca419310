import ast
import re
from decimal import Decimal
from pathlib import Path

from domain.rejections import Breach, Code, plain, rejection, shown
from domain.verdicts import Reject

ROOT = Path(__file__).parents[3]
ROW = re.compile(r"^\| `([A-Z_]+)` \| (.+) \| (.+) \| (.+) \|$", re.MULTILINE)


def sections() -> dict[str, list[str]]:
    """The codes by what they are about: orders, modifies, cancels."""
    page = (ROOT / "docs" / "rejections.md").read_text(encoding="utf-8")
    parts = (part.partition("\n") for part in re.split(r"^#+ ", page, flags=re.MULTILINE))
    return {title: [code for code, *_ in ROW.findall(text)] for title, _, text in parts}


def documented() -> list[str]:
    return [code for codes in sections().values() for code in codes]


def test_every_code_of_the_intake_stages_is_on_the_page_once():
    of_orders = [code for title, codes in sections().items() if title not in ("Modifies", "Cancels") for code in codes]

    assert set(Code) - set(of_orders) == set()
    assert len(of_orders) == len(set(of_orders))
    assert all(len(codes) == len(set(codes)) for codes in sections().values())
    assert {"Modifies", "Cancels"} <= set(sections())


def test_every_code_is_reached_by_a_test_of_its_stage():
    tests = "".join(
        file.read_text(encoding="utf-8") for file in (ROOT / "tests/unit/pipeline/stages").glob("test_*.py")
    )

    assert [code for code in Code if f'"{code}"' not in tests] == []


def test_every_code_that_the_pipeline_rejects_with_is_on_the_page():
    assert rejected_with(ROOT / "pipeline") - set(documented()) == set()


def test_all_reasons_come_under_the_code_of_the_first():
    breaches = [Breach(Code.TICK_SIZE, "one"), Breach(Code.LOT_SIZE, "two")]

    assert rejection(breaches) == Reject("TICK_SIZE", ("one", "two"))


def test_prices_are_shown_with_two_decimals_and_more_only_where_they_have_more():
    assert [shown(Decimal(text)) for text in ("1512.5", "95.8025", "150000")] == [
        "₹1,512.50",
        "₹95.8025",
        "₹1,50,000.00",
    ]
    assert [plain(Decimal(text)) for text in ("5.00", "2.5", "100")] == ["5", "2.5", "100"]


def rejected_with(folder: Path) -> set[str]:
    """The codes that stand as a literal in a `Reject(...)` of the code."""
    found = set()
    for file in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            match node:
                case ast.Call(func=ast.Name("Reject"), args=[ast.Constant(str() as code), *_]):
                    found.add(code)
    return found
