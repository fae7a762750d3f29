"""Markdown is right: links resolve, lines are short, commands parse, and every room says what it may use."""

import re
import shlex
from pathlib import Path

import pytest

from sdcpp_py import cli

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    path
    for pattern in ("*.md", "docs/*.md", "*/README.md", "*/*/README.md", "engine/src/*/README.md")
    for path in ROOT.glob(pattern)
    if not {"build", "node_modules"} & set(path.relative_to(ROOT).parts) and not path.relative_to(ROOT).parts[0].startswith(".")
)
LONGEST_LINE = 140
PLACEHOLDERS = ("…", "[", "<", "|")  # a command with one of these shows a form, not something to type


def named(path):
    return str(path.relative_to(ROOT))


def lines_of(path):
    """The lines of a page: number, text, and whether it is code."""
    fenced, before = False, ""
    for number, line in enumerate(path.read_text().split("\n"), 1):
        fence = line.lstrip().startswith("```")
        indented = line.startswith("    ") and (not before.strip() or before.startswith("    "))
        yield number, line, fenced or fence or indented
        fenced ^= fence
        before = line


def prose(path):
    return "\n".join(line for _, line, code in lines_of(path) if not code)


def anchors(path):
    """The names by which a page's headings can be linked to, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", prose(path), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", PAGES, ids=named)
def test_links_resolve(path):
    text = re.sub(r"`[^`\n]*`", "", prose(path))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        found = (path.parent / file).resolve() if file else path
        assert found.exists(), f"{named(path)} links to {target}"
        assert not anchor or anchor in anchors(found), f"{named(path)} links to {target}, and there is no such heading"


@pytest.mark.parametrize("path", PAGES, ids=named)
def test_pages_that_are_named_exist(path):
    """Pages in code marks count, too: from the root, from the page's folder, or from the engine's rooms."""
    for target in re.findall(r"`([\w./-]+\.md)`", prose(path)):
        assert any((base / target).exists() for base in (ROOT, path.parent, ROOT / "engine" / "src")), target


@pytest.mark.parametrize("path", PAGES, ids=named)
def test_lines_of_prose_are_short(path):
    long = [
        f"{named(path)}:{number} has {len(line)} characters"
        for number, line, code in lines_of(path)
        if len(line) > LONGEST_LINE and not code and not line.startswith("|") and not re.fullmatch(r"\s*!?\[.*\]\(.*\)\W*", line)
    ]
    assert not long


def commands():
    """Commands `sdcpp …` in code blocks, each with its page; a backslash continues a line."""
    for path in PAGES:
        text = "\n".join(line.strip() if code else "" for _, line, code in lines_of(path)).replace("\\\n", " ")
        for line in text.split("\n"):
            for part in line.split(" && "):
                if part.startswith("sdcpp ") and not any(mark in re.sub(r'"[^"]*"', "", part) for mark in PLACEHOLDERS):
                    yield pytest.param(part, id=f"{named(path)}: {part[:60]}")


@pytest.mark.parametrize("command", list(commands()))
def test_commands_parse(command):
    words = shlex.split(command, comments=True)
    cli._parser().parse_args(words[1:])


def test_commands_are_found():
    assert len(list(commands())) >= 10


@pytest.mark.parametrize("flag", sorted({flag for path in PAGES for flag in re.findall(r"`(--[a-z0-9_-]+)", prose(path))}))
def test_flags_that_are_named_exist(flag):
    known = subcommand_flags() | OTHER_PROGRAMS_FLAGS
    assert flag in known


# Flags of pytest, pip and the programs in benchmarks/.
OTHER_PROGRAMS_FLAGS = {"--device", "--memory", "--paper", "--shard", "--turns"}


def subcommand_flags():
    parser = cli._parser()
    chosen = next(action for action in parser._actions if action.choices)
    return {flag for command in chosen.choices.values() for action in command._actions for flag in action.option_strings}


@pytest.mark.parametrize("room", sorted(path.name for path in (ROOT / "engine" / "src").iterdir() if path.is_dir()))
def test_an_engine_room_says_what_it_may_use(room):
    text = " ".join((ROOT / "engine" / "src" / room / "README.md").read_text().split())
    assert text.startswith(f"# {room} ")
    assert re.search(r"May use: [a-z, ]+\.", text)
    assert len(text.split()) > 20, "a room's README says what it holds"


@pytest.mark.parametrize("room", sorted(path.name for path in (ROOT / "sdcpp_py").iterdir() if (path / "__init__.py").exists()))
def test_a_python_room_has_its_line_and_its_row(room):
    """The package's README stands for the rooms': its drawing says what each may use, its table what each holds."""
    text = (ROOT / "sdcpp_py" / "README.md").read_text()
    drawn = re.search(r"```\n(.*?)```", text, re.DOTALL)[1].split()
    assert room in drawn
    assert f"| `{room}/` |" in text
