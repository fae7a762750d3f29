"""Files that appear when they are complete."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sdcpp_py.errors import InvalidArgumentError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_MARK = ".sdcpp-"
_LONGEST = 200  # bytes of the target's name within a temporary one; systems take 255


@contextmanager
def whole_file(target: Path) -> Iterator[Path]:
    """A path in ``target``'s folder to write to. It takes ``target``'s name at the end of the block; gone if that raises. In a
    process that was forked within the block nothing is done: the file is its parent's.

    Temporary files that processes left which were killed are removed first. The system's own rules (the umask) say who may read
    the file. A symbolic link stays, and the file that it names is written. Raises OSError.
    """
    target = Path(os.path.realpath(target))
    _remove_leftovers(target.parent)
    descriptor, temporary = _created(target)
    process = os.getpid()
    try:
        yield temporary
        if process == os.getpid():
            temporary.replace(target)
    except BaseException:
        if process == os.getpid():
            temporary.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)


def require_writable(target: Path) -> None:
    """Raise InvalidArgumentError if ``target`` cannot be written: before work that would be lost."""
    try:
        if target.is_dir():
            raise IsADirectoryError(21, "is a folder", str(target))
        with contextlib.suppress(FileNotFoundError):
            target.stat()  # a name that is too long is told here
        descriptor, temporary = _created(Path(os.path.realpath(target)))
    except OSError as problem:
        raise InvalidArgumentError(f"{target} cannot be written: {problem.strerror or problem}") from None
    os.close(descriptor)
    temporary.unlink(missing_ok=True)


def _created(target: Path) -> tuple[int, Path]:
    """A new file beside ``target``, locked for as long as it is open here: that tells it from a leftover."""
    start = os.fsdecode(os.fsencode(target.name)[:_LONGEST].decode("utf-8", "ignore").encode("utf-8"))
    while True:
        temporary = target.parent / f".{start}{_MARK}{secrets.token_hex(6)}.part"
        descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_RDWR | getattr(os, "O_CLOEXEC", 0), 0o666)
        if fcntl is None:
            return descriptor, temporary
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if temporary.exists():
            return descriptor, temporary
        os.close(descriptor)  # taken for a leftover before it was locked


def _remove_leftovers(folder: Path) -> None:
    if fcntl is None:
        return
    with contextlib.suppress(OSError):
        with os.scandir(folder) as entries:
            left = [entry.path for entry in entries if entry.name.startswith(".") and _MARK in entry.name]
        for path in left:
            with contextlib.suppress(OSError):
                descriptor = os.open(path, os.O_RDWR | getattr(os, "O_CLOEXEC", 0))
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    os.unlink(path)
                finally:
                    os.close(descriptor)
