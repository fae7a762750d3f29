"""Those who watch a run: the callbacks of a call of `Pipeline.generate`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from PIL import Image

from sdcpp_py._result import Step
from sdcpp_py.errors import InvalidArgumentError, shown

Watcher = Callable[[Step], None]


class Watchers:
    """A call's callbacks. ``given`` are its options; a callback for previews makes them wanted."""

    def __init__(self, callback: Any, preview_callback: Any, picture_callback: Any, given: dict[str, Any]) -> None:
        """Check them. Raises InvalidArgumentError."""
        every = {"callback": callback, "preview_callback": preview_callback, "picture_callback": picture_callback}
        for name, one in every.items():
            if one is not None and not callable(one):
                raise InvalidArgumentError.of(name, f"must be a function, not {shown(one)}")
        self._callback: Watcher | None = callback
        self._preview_callback: Watcher | None = preview_callback
        self._picture_callback: Callable[[int, Image.Image], None] | None = picture_callback
        if preview_callback is not None and given["preview"] == "none":
            given["preview"] = "proj"

    def tell(self, step: Step) -> None:
        """Call those that want to know of this step."""
        if self._callback is not None:
            self._callback(step)
        if self._preview_callback is not None and step.has_preview:
            self._preview_callback(step)

    def show(self, number: int, picture: Image.Image) -> None:
        """Give a picture that is done to the one who wants it."""
        if self._picture_callback is not None:
            self._picture_callback(number, picture)
