"""Templates for prompts, with the package that expands them."""

import pytest

from sdcpp_py import wildcards
from sdcpp_py.cli import main
from sdcpp_py.errors import InvalidArgumentError, ModelNotFoundError


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "colours.txt").write_text("red\nblue\n# a comment\ngreen\n")
    (tmp_path / "deep" / "shapes.txt").write_text("circle\nsquare\n")
    return tmp_path


def test_templates_are_expanded_by_their_seed(folder):
    pytest.importorskip("dynamicprompts")
    text = "a __colours__ (__deep/shapes__:1.2) {one|two} [a|b] <lora:x:0.5>"
    found = wildcards.expanded(text, 20, seed=3, folder=folder)
    assert found == wildcards.expanded(text, 20, seed=3, folder=folder) != wildcards.expanded(text, 20, seed=4, folder=folder)
    assert len(set(found)) > 5 and all("[a|b] <lora:x:0.5>" in one and "__" not in one and "{" not in one for one in found)
    every = wildcards.expanded("{a|b} __deep/shapes__", None, folder=folder, combinatorial=True)
    assert sorted(every) == ["a circle", "a square", "b circle", "b square"]
    for wrong in ("a {unbalanced", 3):
        with pytest.raises(InvalidArgumentError):
            wildcards.expanded(wrong)
    with pytest.raises(ModelNotFoundError):
        wildcards.expanded("a", folder=folder / "nowhere")
    with pytest.raises(InvalidArgumentError, match="count"):
        wildcards.expanded("a", None)


def test_the_command_line_expands(folder, tmp_path):
    pytest.importorskip("dynamicprompts")
    words = ["generate", "a {red|blue|green|yellow} circle", "-W", "64", "-H", "64", "--steps", "1", "-s", "5", "-b", "4"]
    assert main([*words, "--dynamic", "-o", str(tmp_path / "[n]-[prompt].png")]) == 0
    names = sorted(path.name for path in tmp_path.glob("*.png"))
    assert len(names) == 4 and len({name[2:] for name in names}) > 1 and all("{" not in name for name in names)
