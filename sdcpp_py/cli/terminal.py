"""Pictures within the text of terminals that show them, by kitty's protocol or iTerm2's."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from typing import Literal

from PIL import Image

from sdcpp_py.errors import InvalidArgumentError

Protocol = Literal["kitty", "iterm2"]
_PROGRAMS: dict[str, Protocol] = {"iTerm.app": "iterm2", "WezTerm": "iterm2", "vscode": "iterm2", "ghostty": "kitty"}
_ROWS = 12  # lines of text that a picture is high
_CHUNK = 4096  # characters in one of kitty's commands, at most


def protocol(environment: Mapping[str, str], is_terminal: bool) -> Protocol:
    """The protocol of the terminal that a program runs in, by its environment. Raises InvalidArgumentError if none is known."""
    if not is_terminal:
        raise InvalidArgumentError("--preview-inline shows pictures in a terminal, and this output is none: use --preview-path")
    if "TMUX" not in environment and "STY" not in environment:  # tmux and screen pass no pictures on
        if "KITTY_WINDOW_ID" in environment or "KONSOLE_VERSION" in environment:
            return "kitty"
        if environment.get("TERM") in ("xterm-kitty", "xterm-ghostty"):
            return "kitty"
        if found := _PROGRAMS.get(environment.get("TERM_PROGRAM", "")):
            return found
    raise InvalidArgumentError(
        "this terminal is not known to show pictures; kitty, Ghostty, Konsole, WezTerm, iTerm2 and VS Code do, outside of tmux "
        "and screen. --preview-path keeps previews in a file"
    )


def shown(picture: Image.Image, how: Protocol) -> str:
    """The text that shows a picture on a terminal, 12 lines high."""
    file = io.BytesIO()
    picture.save(file, "PNG")
    data = base64.b64encode(file.getvalue()).decode()
    if how == "iterm2":
        return f"\x1b]1337;File=inline=1;size={len(file.getvalue())};height={_ROWS};preserveAspectRatio=1:{data}\x07"
    chunks = [data[at : at + _CHUNK] for at in range(0, len(data), _CHUNK)]
    text = ""
    for number, chunk in enumerate(chunks):
        # a PNG that is shown at once, so many rows high, without an answer
        first = f"f=100,a=T,r={_ROWS},q=2," if number == 0 else ""
        text += f"\x1b_G{first}m={int(number < len(chunks) - 1)};{chunk}\x1b\\"
    return text
