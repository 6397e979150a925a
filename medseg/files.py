"""Output folders and small files: whole or not at all, and one run at a time."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from medseg.errors import LockedError, OutputError

LOCK_NAME = ".medseg.lock"


def write_whole(path: Path, write: Callable[[IO[bytes]], Any]) -> None:
    """Let ``write`` fill a temporary file beside ``path``, flush it to the disk, then give it its name.

    Raises:
        OutputError: It cannot be written; nothing is left behind.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except (OSError, RuntimeError) as error:  # torch.save tells of a full disk with a RuntimeError
        if isinstance(error.__context__, KeyboardInterrupt):
            raise error.__context__ from None
        raise OutputError("OUTPUT_UNWRITABLE", path, str(error), "free space or choose another folder") from error
    finally:
        # After success, below a file or in a read-only folder there is nothing to remove.
        with contextlib.suppress(OSError):
            temporary.unlink()


def write_text(text: str, path: Path) -> None:
    """Write ``text`` whole, in UTF-8.

    Raises:
        OutputError: It cannot be written.
    """
    write_whole(path, lambda file: file.write(text.encode("utf-8", errors="backslashreplace")))


def write_json(content: Mapping[str, Any], path: Path) -> None:
    """Write ``content`` whole, as indented JSON.

    Raises:
        OutputError: It cannot be written.
    """
    write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", path)


@contextlib.contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Hold ``folder``, made where missing, so that no other run writes to it.

    Raises:
        LockedError: Another run holds it.
        OutputError: It cannot be written.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(folder / LOCK_NAME)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout as error:
        raise LockedError("OUTPUT_LOCKED", folder, "another run is writing there") from error
    except OSError as error:
        raise OutputError(
            "OUTPUT_UNWRITABLE", folder, error.strerror or str(error), "give a folder that you may write to"
        ) from error
    try:
        yield
    finally:
        lock.release()
