"""The package's modules import downwards only, in the order that their README draws, and only `_engine` touches C."""

import ast
import re
from pathlib import Path

import pytest

SOURCES = Path(__file__).parents[2] / "sdcpp_py"
FILES = sorted(path.relative_to(SOURCES) for path in SOURCES.rglob("*.py"))


def order():
    """Rooms and modules from the bottom up, each with its line's number."""
    text = (SOURCES / "README.md").read_text()
    lines = re.search(r"```\n(.*?)```", text, re.DOTALL)[1].split("\n")
    return {name: number for number, line in enumerate(reversed(lines)) for name in line.split()}


def room(path):
    return path.parts[0].removesuffix(".py")


def imported(path):
    """Rooms and modules of the package that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse((SOURCES / path).read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            parts = node.module.split(".")
            if parts[0] == "sdcpp_py":
                found |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("sdcpp_py.")}
    return found - {room(path)}


@pytest.mark.parametrize("path", [path for path in FILES if path.name != "__main__.py"], ids=str)
def test_a_module_imports_what_lies_below_it(path):
    lines = order()
    below = {name for name, line in lines.items() if line < lines[room(path)]} if room(path) != "__init__" else set(lines)
    assert imported(path) <= below


def test_every_room_has_its_line():
    assert set(order()) == {
        room(path) for path in FILES if path.name not in ("__init__.py", "__main__.py") or len(path.parts) > 1
    }


def within(folder):
    """For each module of a room, the room's modules that it imports."""
    found = {}
    for path in (SOURCES / folder).glob("*.py"):
        names = re.findall(rf"^from sdcpp_py\.{folder}(?:\.(\w+))? import ([\w, ]+)", path.read_text(), re.MULTILINE)
        modules = {name.strip() for module, listed in names for name in ([module] if module else listed.split(","))}
        found[path.stem] = {name for name in modules if (SOURCES / folder / f"{name}.py").exists()} - {path.stem}
    return found


@pytest.mark.parametrize("folder", sorted({path.parts[0] for path in FILES if len(path.parts) > 1}))
def test_a_rooms_modules_make_no_circle(folder):
    arrows = within(folder)
    while arrows:
        ground = [name for name, below in arrows.items() if not below & set(arrows)]
        assert ground, f"a circle among {sorted(arrows)}"
        for name in ground:
            del arrows[name]


def test_only_one_room_touches_c():
    for path in FILES:
        if room(path) != "_engine":
            text = (SOURCES / path).read_text()
            assert not re.search(r"\bffi\b|\b_lib\b|import cffi|import ctypes", text) or path.name == "_clone.py", path


def test_every_call_of_the_interface_has_its_function():
    header = (SOURCES.parent / "engine" / "include" / "sdcpp.h").read_text()
    header = re.sub(r"/\*.*?\*/", "", header, flags=re.DOTALL)
    declared = set(re.findall(r"\b(sdcpp_\w+)\(", header))
    used = set()
    for path in (SOURCES / "_engine").glob("*.py"):
        used |= set(re.findall(r"\blib\.(sdcpp_\w+)", path.read_text()))
    assert declared <= used
