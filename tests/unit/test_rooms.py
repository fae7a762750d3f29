"""The engine's folders use only what their README says that they may use, and no folder uses itself through others."""

import re
from pathlib import Path

import pytest

SOURCES = Path(__file__).parents[2] / "engine" / "src"
ROOMS = sorted(path.name for path in SOURCES.iterdir() if path.is_dir())


def allowed(room):
    text = " ".join((SOURCES / room / "README.md").read_text().split())
    found = re.search(r"May use: ([a-z, ]+)\.", text)
    assert found, f"{room}/README.md does not say what {room} may use"
    return set(found[1].split(", ")) - {"nothing"}


def used(room):
    files = [path for pattern in ("*.h", "*.cpp") for path in (SOURCES / room).glob(pattern) if not path.stem.endswith("_test")]
    includes = {line for path in files for line in re.findall(r'^#include "([a-z_]+)/', path.read_text(), re.MULTILINE)}
    return includes - {room}


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_uses_what_its_readme_allows(room):
    assert used(room) <= allowed(room)
    assert allowed(room) <= set(ROOMS)


def test_arrows_between_rooms_make_no_circle():
    arrows = {room: allowed(room) for room in ROOMS}
    while arrows:
        ground = [room for room, below in arrows.items() if not below & set(arrows)]
        assert ground, f"a circle among {sorted(arrows)}"
        for room in ground:
            del arrows[room]
