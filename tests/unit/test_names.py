"""Families and components are named in their own files alone: nothing else decides by their names."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
FAMILIES = ROOT / "engine" / "src" / "families"
KEYWORDS = {
    "vae",
    "taesd",
    "llm",
    "clip_vision",
}  # keywords of `Pipeline` and flags, too: as words they are free, as quoted names not
# Files that quote the keywords, and decide nothing by them.
KEYWORD_TABLES = {"sdcpp_py/_compat.py", "sdcpp_py/_names.py", "sdcpp_py/_model_parts.py", "engine/tests/fuzz_readers.cpp"}
KEYWORD_TABLES |= {f"engine/src/pipeline/preview.{ending}" for ending in ("h", "cpp")}  # values of the option of that name
OWN = ("engine/src/families/", "engine/src/models/", "sdcpp_py/text/", "sdcpp_py/data/")  # tokenizers have their names, too


def named():
    """The names of all families and components, and the families' titles, as their rows give them."""
    text = "".join(path.read_text() for path in FAMILIES.glob("*.cpp"))
    names = set(re.findall(r'\.name = "([^"]+)"', text)) | set(re.findall(r'\.title = "([^"]+)"', text))
    assert {"sd1", "z-image", "clip_l", "Stable Diffusion XL"} <= names
    return names - KEYWORDS


def sources():
    for folder, pattern in (("engine", "*.h"), ("engine", "*.cpp"), ("sdcpp_py", "*.py")):
        for path in sorted((ROOT / folder).rglob(pattern)):
            name = path.relative_to(ROOT).as_posix()
            if not name.startswith(OWN) and not name.endswith("_test.cpp"):
                yield name, path.read_text()


def lines_with(pattern, besides=frozenset()):
    return [
        f"{name}:{number}: {line.strip()}"
        for name, text in sources()
        if name not in besides
        for number, line in enumerate(text.splitlines(), 1)
        if re.search(pattern, line)
    ]


def test_no_other_file_names_a_family_or_a_component():
    found = lines_with("|".join(rf"(?<![\w-]){re.escape(name)}(?![\w])" for name in sorted(named())))
    assert not found, "\n".join(found)


def test_components_that_are_keywords_are_not_decided_by():
    """A quoted name, alone or before a dot, as in `x == "vae"`, belongs to a component's own file."""
    pattern = f"""["']({"|".join(sorted(KEYWORDS))})["'.]"""
    found = lines_with(pattern, KEYWORD_TABLES)
    assert not found, "\n".join(found)
    assert re.search(pattern, 'if (x == "vae")') and re.search(pattern, 'name.starts_with("llm.")')


def test_every_component_and_family_is_in_its_table():
    text = "".join(path.read_text() for path in FAMILIES.glob("*.cpp"))
    for kind, table in (("Component", "components.cpp"), ("Family", "families.cpp")):
        made = re.findall(rf"^const {kind} (\w+) = \{{", text, re.MULTILINE)
        assert made and all(f"&{name}" in (FAMILIES / table).read_text() for name in made)
