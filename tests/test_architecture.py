"""The house as its imports draw it: floors, circles, and the three choke points."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from ops.processes import IMPORTS

ROOT = Path(__file__).parents[1]
FLOORS = {"domain": 0, "store": 1, "brokers": 1, "readmodel": 2, "pipeline": 3, "ingress": 4, "ops": 4}


@cache
def files() -> dict[str, Path]:
    """Every module of ours by its dotted name."""
    found = {}
    for package in FLOORS:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def tree(module: str) -> ast.Module:
    return ast.parse(files()[module].read_text(encoding="utf-8"))


@cache
def imports(module: str) -> frozenset[str]:
    """The modules of ours that one imports, wherever in the file: in functions and for type checkers, too.

    An import for the type checker alone can't fail at run time; but it says that this file knows of the other, and
    that is what floors and circles are about. What stands under `if __name__ == "__main__"` belongs to the program
    that the file is then, and not to the module.
    """
    found = set()
    body = [node for node in tree(module).body if not _is_program(node)]
    for node in (inner for outer in body for inner in ast.walk(outer)):
        if isinstance(node, ast.Import):
            found.update(_ours(alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports by a relative name"
            name = node.module or ""
            found.update(_ours(f"{name}.{alias.name}") or _ours(name) for alias in node.names)
    return frozenset(found - {"", module})


def _is_program(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "__name__ == '__main__'"


def _ours(name: str) -> str:
    """The longest part of a dotted name that is a module of ours; empty where none is."""
    while name and name not in files():
        name = name.rpartition(".")[0]
    return name


def package(module: str) -> str:
    return module.partition(".")[0]


@pytest.mark.parametrize("name", FLOORS)
def test_imports_point_down(name: str) -> None:
    wrong = [
        f"{module} imports {other}"
        for module in files()
        if package(module) == name
        for other in imports(module)
        if package(other) != name and FLOORS[package(other)] >= FLOORS[name]
    ]
    assert wrong == []


def test_no_two_files_import_each_other_by_any_way_around() -> None:
    assert list(_circles()) == []


def _circles() -> Iterator[list[str]]:
    done: set[str] = set()
    for start in files():
        way: list[str] = []
        stack = [(start, iter(sorted(imports(start))))] if start not in done else []
        way.extend(module for module, _ in stack)
        while stack:
            module, others = stack[-1]
            other = next(others, None)
            if other is None:
                done.add(module)
                stack.pop()
                way.pop()
            elif other in way:
                yield [*way[way.index(other) :], other]
            elif other not in done:
                stack.append((other, iter(sorted(imports(other)))))
                way.append(other)


def test_the_words_lean_on_nothing_but_pydantic_and_ids() -> None:
    """`domain` is the standard library, pydantic, and the one package that makes ids."""
    allowed = {"pydantic", "pydantic_core", "uuid_utils"}
    assert {name for module in files() if package(module) == "domain" for name in _foreign(module)} <= allowed


def test_the_simulators_share_no_code_with_the_adapters() -> None:
    for module in files():
        if module.startswith("brokers.simulator"):
            beside = {other for other in imports(module) if package(other) == "brokers"}
            assert {other for other in beside if not other.startswith("brokers.simulator")} == set(), module
        elif package(module) in ("brokers", "pipeline", "readmodel", "ingress"):
            assert not {other for other in imports(module) if other.startswith("brokers.simulator")}, module


def test_only_a_unit_commits() -> None:
    """And the migrations, which have no unit."""
    assert _callers("commit") == {"store.unit", "store.migrate"}


def test_only_the_publisher_publishes_and_only_the_sweep_buries() -> None:
    assert _callers("enqueue") == {"pipeline.wakeups"}
    assert _callers("basic_publish") == {"pipeline.queueview"}
    assert {module for module in files() if "pipeline.queueview" in imports(module)} == {"pipeline.sweep"}


def test_brokers_are_called_through_the_transport_alone() -> None:
    wires = {"httpx2", "httpcore2", "httpx", "http.client", "urllib.request", "requests", "aiohttp", "socket"}
    users = {
        module
        for module in files()
        if package(module) in ("brokers", "pipeline", "readmodel", "store", "domain")
        and not module.startswith("brokers.simulator")
        and any(name in wires for name in _foreign(module, whole=True))
    }
    assert users - {"pipeline.claims", "pipeline.rabbit"} <= {"brokers.transport", "brokers.sockets"}
    # A stream carries no request of ours, so no outcome hangs on it: only a handshake and pings leave there.
    assert {m for m in files() if "websockets" in _foreign(m) and not m.startswith("brokers.simulator")} == {
        "brokers.streams.follow"
    }
    assert {module for module in files() if "brokers.sockets" in imports(module)} <= {"brokers.transport"}


def _foreign(module: str, *, whole: bool = False) -> set[str]:
    """What a module imports that is neither ours nor, unless `whole` is asked for, the standard library's."""
    import sys

    found = set()
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    if whole:
        return found
    tops = {name.partition(".")[0] for name in found}
    return tops - set(sys.stdlib_module_names) - set(FLOORS)


def _callers(method: str) -> set[str]:
    """The modules with a call of anything's method of that name."""
    return {
        module
        for module in files()
        for node in ast.walk(tree(module))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == method
    }


def test_the_project_speaks_of_nothing_outside_itself() -> None:
    """No path of the place where it was written may be left in it."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip("not a checkout")
    outside = re.compile(r"(?<![\w./-])(?:shared/|/" + "work/|/" + r"tmp/scratch)|\.lib" + "rary/")
    told = []
    for name in listed.stdout.split("\0"):
        path = ROOT / name
        if name and path.is_file() and path.stat().st_size < 2_000_000:
            text = path.read_text(encoding="utf-8", errors="ignore")
            told.extend(f"{name}: {match.group()}" for match in outside.finditer(text) if path != Path(__file__))
    assert told == []


def test_what_a_fork_server_imports_reads_nothing_that_is_one_processs_own() -> None:
    """It is imported before there are processes: see docs/decisions/0013-processes-are-forked-on-one-machine.md."""
    own = ("os.environ", "os.getenv", "os.getpid", "uuid.uuid4", "new_id", "secrets.", "random.random", "time.monotonic()")
    given = {module for module in files() if {module, package(module)} & {*IMPORTS}}
    preloaded = [module for module in sorted(given) if not module.endswith("__main__")]
    found = {module for module in preloaded if any(name in _run_at_import(module) for name in own)}
    assert {"pipeline.crash"} == found  # whoever wants a crash starts the program


class _AtImport(ast.NodeTransformer):
    """Leaves what is run when a module is imported: decorators and defaults, but no function's body."""

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> ast.AST:
        node.name, node.body = "_", [ast.Pass()]
        return node

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_Lambda(self, node: ast.Lambda) -> ast.AST:
        return ast.Constant(None)

    def visit_If(self, node: ast.If) -> ast.AST | None:
        return None if _is_program(node) else self.generic_visit(node)

    def visit_Import(self, node: ast.Import) -> None:
        """A name alone does nothing."""

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        """A name alone does nothing."""


def _run_at_import(module: str) -> str:
    return ast.unparse(_AtImport().visit(ast.parse(files()[module].read_text(encoding="utf-8"))))
