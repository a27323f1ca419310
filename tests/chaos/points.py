"""Every crash point there is, read off the code, and what must have one: commits, publishes and broker calls."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pipeline.chain import CHANGES, GROUPS, INTAKE, OUTCOME, all_stages

ROOT = Path(__file__).parents[2]
BROKERS = ("upstox", "zerodha")
PACKAGES = ("pipeline", "ingress", "brokers", "ops")
WRITES = re.compile(r"\b(insert\s+into|(?<!for )(?<!key )update\s+\w+\s|delete\s+from|make_partitions)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Point:
    """A name that `crash` is called with, and the module that does so."""

    name: str
    module: str


@cache
def points(brokers: tuple[str, ...] = BROKERS) -> tuple[Point, ...]:
    """All of them, by name; where the name has a stage in it, one for each stage that gets there."""
    found = {}
    for module in modules(*PACKAGES):
        if "crash(" not in source(module):
            continue
        for call, scope in _calls(tree(module)):
            if _last_name(call.func) == "crash" and call.args:
                for name in _names(call.args[0], scope, brokers):
                    found[name] = Point(name, module)
    return tuple(found[name] for name in sorted(found))


def _names(argument: ast.expr, scope: tuple[str, ...], brokers: tuple[str, ...]) -> Iterator[str]:
    if isinstance(argument, ast.Constant):
        yield str(argument.value)
    elif isinstance(argument, ast.JoinedStr):
        first, *rest = argument.values
        assert isinstance(first, ast.FormattedValue), ast.unparse(argument)
        assert ast.unparse(first.value) == "stage", ast.unparse(argument)
        suffix = "".join(str(part.value) for part in rest if isinstance(part, ast.Constant))
        # The engine runs the two groups; dispatch has a first step of its own.
        for stage in (*INTAKE, *CHANGES, *OUTCOME) if "Engine" in scope else all_stages(brokers):
            if stage != GROUPS:  # which puts its decisions off by itself
                yield stage + suffix
    else:
        raise AssertionError(f"crash({ast.unparse(argument)}): a name that can't be read off the code")


def bare_commits() -> list[str]:
    """Units that write, in pipeline, ingress and the clock, with no crash point inside them or right after."""
    told = []
    for module in (*modules("pipeline", "ingress"), "ops.clock"):
        for function in _functions(tree(module)):
            for block in _units(function):
                if not _writes(block, module) or _has_point(block):
                    continue
                if not _has_point_beside(function, block):
                    told.append(f"{module}:{block.lineno} {function.name}")
    return told


def bare_publishes() -> list[str]:
    """Functions that publish or acknowledge a message without a crash point."""
    wanted = {"enqueue", "basic_publish", "basic_ack"}
    told = []
    for module in modules("pipeline", "ingress", "ops"):
        for function in _functions(tree(module)):
            if any(_last_name(call.func) in wanted for call, _ in _calls(function)) and not _has_point(function):
                told.append(f"{module}:{function.lineno} {function.name}")
    return told


def bare_calls() -> list[str]:
    """Of the three places of a broker call (before its bytes, after them, after the answer) those without a point."""
    wanted = {"broker.before_send", "broker.after_send", "broker.after_answer"}
    return sorted(wanted - {point.name for point in points() if point.module.startswith("brokers.")})


@cache
def modules(*packages: str) -> tuple[str, ...]:
    found = []
    for package in packages:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            if "simulator" not in parts and parts[-1] != "__init__" and "." not in parts[-1]:
                found.append(".".join(parts))
    return tuple(found)


@cache
def source(module: str) -> str:
    return (ROOT / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8")


@cache
def tree(module: str) -> ast.Module:
    return ast.parse(source(module))


# What writes: a function of `store` whose SQL does, and whatever hands a unit to one that writes.


def _writes(block: ast.With, module: str) -> bool:
    return any(_hands_to_a_writer(call, module) for call, _ in _calls(block))


def _hands_to_a_writer(call: ast.Call, module: str) -> bool:
    name, owner = _last_name(call.func), ast.unparse(call.func).rpartition(".")[0]
    if owner == "unit":  # SQL on the spot
        return any(WRITES.search(text) for text in _texts(call))
    if not any(isinstance(argument, ast.Name) and argument.id == "unit" for argument in call.args):
        return False
    return (_home(owner, name, module), name) in _writers()


def _home(owner: str, name: str, module: str) -> str:
    """The module that a call's function is from."""
    known = _imported(module)
    if owner in ("", "self"):
        return known.get(name, (module, name))[0]
    if owner in known:
        found, original = known[owner]
        return f"{found}.{original}" if (ROOT / found.replace(".", "/") / f"{original}.py").exists() else found
    return "pipeline.batch" if owner.endswith("batch") else owner


@cache
def _imported(module: str) -> Mapping[str, tuple[str, str]]:
    """Local name → (module, name there)."""
    return {
        alias.asname or alias.name: (node.module or "", alias.name)
        for node in ast.walk(tree(module))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


@cache
def _writers() -> frozenset[tuple[str, str]]:
    """(module, function) of whatever writes when it is given a unit."""
    writers: set[tuple[str, str]] = set()
    for module in modules("store"):
        constants: dict[str, str] = {}
        for node in tree(module).body:
            if isinstance(node, ast.Assign):
                parts = [constants.get(inner.id, "") for inner in ast.walk(node.value) if isinstance(inner, ast.Name)]
                text = " ".join([*_texts(node.value), *parts])
                constants |= {target.id: text for target in node.targets if isinstance(target, ast.Name)}
        for function in _functions(tree(module)):
            names = {node.id for node in ast.walk(function) if isinstance(node, ast.Name)}
            texts = [*_texts(function), *(constants[name] for name in names & constants.keys())]
            if any(WRITES.search(text) for text in texts):
                writers.add((module, function.name))
    while True:
        more = {
            (module, function.name)
            for module in modules("store", "pipeline")
            for function in _functions(tree(module))
            if (module, function.name) not in writers
            and any(_hands_on(call, module, writers) for call, _ in _calls(function))
        }
        if not more:
            return frozenset(writers)
        writers |= more


def _hands_on(call: ast.Call, module: str, writers: set[tuple[str, str]]) -> bool:
    if not any(isinstance(argument, ast.Name) and argument.id == "unit" for argument in call.args):
        return False
    owner, name = ast.unparse(call.func).rpartition(".")[0], _last_name(call.func)
    return (_home(owner, name, module), name) in writers


def _units(function: ast.FunctionDef) -> Iterator[ast.With]:
    for node in ast.walk(function):
        if isinstance(node, ast.With) and any(
            isinstance(item.context_expr, ast.Call) and _last_name(item.context_expr.func) in ("unit", "at_once")
            for item in node.items
        ):
            yield node


def _has_point(node: ast.AST) -> bool:
    return any(_last_name(call.func) == "crash" for call, _ in _calls(node))


def _has_point_beside(function: ast.FunctionDef, block: ast.With) -> bool:
    """Whether a crash point stands right before or right after the block."""
    for node in ast.walk(function):
        for body in (getattr(node, "body", None), getattr(node, "orelse", None), getattr(node, "finalbody", None)):
            if isinstance(body, list) and block in body:
                place = body.index(block)
                return any(
                    isinstance(other, ast.Expr) and _has_point(other) for other in body[max(0, place - 1) : place + 2]
                )
    return False


def _functions(node: ast.AST) -> Iterator[ast.FunctionDef]:
    return (inner for inner in ast.walk(node) if isinstance(inner, ast.FunctionDef))


def _calls(node: ast.AST, scope: tuple[str, ...] = ()) -> Iterator[tuple[ast.Call, tuple[str, ...]]]:
    """Calls with the names of the classes and functions around them."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Call):
            yield child, scope
        inner = (*scope, child.name) if isinstance(child, (ast.ClassDef, ast.FunctionDef)) else scope
        yield from _calls(child, inner)


def _texts(node: ast.AST) -> list[str]:
    return [inner.value for inner in ast.walk(node) if isinstance(inner, ast.Constant) and isinstance(inner.value, str)]


def _last_name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


if __name__ == "__main__":
    for point in points():
        print(f"{point.name:<40}{point.module}")
