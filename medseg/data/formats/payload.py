"""Voxel bytes out of a file, plain or compressed, checked against what the header claims."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import IO, cast

import numpy as np
from isal import isal_zlib
from numpy.typing import DTypeLike, NDArray

from medseg.errors import ImageError
from medseg.findings import Finding, make_note

GZIP_WINDOW = 31
ZLIB_WINDOW = 15
GZIP_MAGIC = b"\x1f\x8b"

READ_BYTES = 1 << 18
INFLATE_BYTES = 1 << 22
TRAILING_LIMIT_BYTES = 1 << 26

DEFLATE_LIMIT_RATIO = 1040
"""Deflate never packs more than 1032 bytes into one; a larger claim is false."""

SUSPECT_BYTES = 1 << 30
SUSPECT_RATIO = 900
"""Above 1 GiB, what shrinks 900-fold is one value throughout, packed as tight as deflate can: a bomb.

Even an empty mask that ``write`` made shrinks only 295-fold, for it packs at level 3.
"""

MEMORY_FILE = Path("/proc/meminfo")
MEMORY_LIMIT_FILE = Path("/sys/fs/cgroup/memory.max")

_budget_bytes: ContextVar[int | None] = ContextVar("budget_bytes", default=None)
# Readers are called by MONAI's LoadImage, which hands no argument on; so the budget travels beside the calls, and only
# as long as ``memory_budget`` is open, in its own thread.


class Inflated(io.RawIOBase):
    """The bytes inside a deflate stream, read once, checksums verified on the way.

    Several gzip members one after the other (bgzip, pigz) read as one stream. Bytes
    after the last member are counted in ``trailing_bytes``.

    Args:
        file: Open at the first compressed byte.
        case: Named in errors.
        window: zlib's ``wbits``: 31 gzip, 15 zlib, −15 bare deflate.
    """

    def __init__(self, file: IO[bytes], case: object, window: int = GZIP_WINDOW) -> None:
        self.trailing_bytes = 0
        self._file, self._case, self._window = file, case, window
        self._inflater = isal_zlib.decompressobj(window)
        self._waiting = b""

    def readable(self) -> bool:
        """Always true."""
        return True

    def readinto(self, buffer: object) -> int:
        """Fill ``buffer`` as far as one step allows; 0 at the end of the stream.

        Raises:
            ImageError: ``IMAGE_TRUNCATED`` or ``IMAGE_CORRUPT``.
        """
        view = memoryview(cast(bytearray, buffer)).cast("B")
        while True:
            if self._inflater.eof and not self._starts_next_member():
                return 0
            data = self._waiting or self._file.read(READ_BYTES)
            # Without more input the inflater may still hold output.
            block = self._inflate(data, min(len(view), INFLATE_BYTES))
            if block:
                view[: len(block)] = block
                return len(block)
            if not data and not self._inflater.eof:
                raise _truncation_error(self._case, "the compressed stream ends too early")

    def close(self) -> None:
        """Close the file below as well."""
        self._file.close()
        super().close()

    def _inflate(self, data: bytes, limit: int) -> bytes:
        try:
            block = self._inflater.decompress(data, limit)
        except isal_zlib.error as error:  # type: ignore[misc]  # The stubs do not say that it is an exception.
            problem = f"the compressed data is damaged ({error})"
            raise ImageError("IMAGE_CORRUPT", self._case, problem) from error
        self._waiting = self._inflater.unconsumed_tail
        return block

    def _starts_next_member(self) -> bool:
        rest = self._inflater.unused_data + self._waiting
        rest += self._file.read(READ_BYTES) if len(rest) < 2 else b""
        if self._window == GZIP_WINDOW and rest.startswith(GZIP_MAGIC):
            self._inflater, self._waiting = isal_zlib.decompressobj(self._window), rest
            return True
        self.trailing_bytes = len(rest.strip(b"\0"))
        return False


def open_source(path: Path) -> io.BufferedReader:
    """The file's bytes, inflated where it begins as gzip, whatever its name says."""
    file = path.open("rb")
    magic = file.read(2)
    file.seek(0)
    return io.BufferedReader(Inflated(file, path), INFLATE_BYTES) if magic == GZIP_MAGIC else file


def is_inflated(source: io.BufferedReader) -> bool:
    """Whether ``source`` inflates a compressed file."""
    return isinstance(source.raw, Inflated)


def check_budget(claimed_bytes: int, stored_bytes: int, is_compressed: bool, case: object) -> None:
    """Refuse a header that claims more bytes than the file can hold, before allocating.

    Raises:
        ImageError: ``IMAGE_TRUNCATED``, ``IMAGE_TOO_LARGE`` or ``MEMORY_BUDGET``.
    """
    if claimed_bytes > stored_bytes * (DEFLATE_LIMIT_RATIO if is_compressed else 1):
        raise _truncation_error(case, f"the header claims {claimed_bytes} bytes, the file holds {stored_bytes}")
    if claimed_bytes > SUSPECT_BYTES and claimed_bytes > SUSPECT_RATIO * stored_bytes:
        raise ImageError(
            "IMAGE_TOO_LARGE",
            case,
            f"{stored_bytes} bytes on disk would inflate to {claimed_bytes}",
        )
    check_memory(claimed_bytes, case)


@contextmanager
def memory_budget(most_bytes: int | None) -> Iterator[None]:
    """Within this block, images that need more memory are refused before it is allocated.

    Args:
        most_bytes: For one image; None leaves what the system has to give.
    """
    token = _budget_bytes.set(most_bytes)
    try:
        yield
    finally:
        _budget_bytes.reset(token)


def memory_limit() -> int | None:
    """Bytes that may be taken: ``memory_budget``'s, or what the system has to give; None where it does not say."""
    stated = _budget_bytes.get()
    return _available_bytes() if stated is None else stated


def check_memory(needed_bytes: int, case: object, what: str = "its voxels") -> None:
    """Refuse what does not fit the memory budget: that of ``memory_budget``, or what the system has to give.

    Raises:
        ImageError: ``MEMORY_BUDGET``.
    """
    most, stated = memory_limit(), _budget_bytes.get()
    if most is not None and needed_bytes > most:
        owner = "the memory that is free" if stated is None else "the budget"
        problem = f"{what} take {needed_bytes / 1e9:.3g} GB, {owner} is {most / 1e9:.3g} GB"
        raise ImageError(
            "MEMORY_BUDGET", case, problem, "crop the image, or raise --max-ram where there is more memory"
        )


def _available_bytes() -> int | None:
    """What a new process could take without swapping, where the system says so (Linux); None elsewhere."""
    try:
        lines = dict(line.split(":", 1) for line in MEMORY_FILE.read_text(encoding="ascii").splitlines())
        most = int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, ValueError, LookupError):
        return None
    try:
        return min(most, int(MEMORY_LIMIT_FILE.read_text(encoding="ascii")))
    except (OSError, ValueError):  # No control group, or one without a limit.
        return most


def skip_bytes(source: IO[bytes], count: int, case: object) -> None:
    """Read past ``count`` bytes.

    Raises:
        ImageError: ``IMAGE_TRUNCATED``.
    """
    while count:
        block = source.read(min(count, INFLATE_BYTES))
        if not block:
            raise _truncation_error(case, "the file ends before its voxels begin")
        count -= len(block)


def read_voxels(source: IO[bytes], shape: tuple[int, ...], dtype: DTypeLike, case: object) -> NDArray:
    """Exactly the voxels of ``shape``, first axis fastest, in native byte order.

    Raises:
        ImageError: ``IMAGE_TRUNCATED``.
    """
    stored = np.dtype(dtype)
    flat = np.empty(int(np.prod(shape, dtype=object)), dtype=stored)
    view, done = memoryview(flat.view(np.uint8)), 0  # type: ignore[arg-type]
    while done < flat.nbytes:
        count = source.readinto(view[done : done + (1 << 30)])  # type: ignore[attr-defined]
        if not count:
            raise _truncation_error(case, f"voxels need {flat.nbytes} bytes, {done} are there")
        done += count
    if not stored.isnative:
        flat = flat.byteswap(inplace=True).view(stored.newbyteorder("="))
    return flat.reshape(shape, order="F")


def trailing_notes(source: io.BufferedReader, case: object) -> tuple[Finding, ...]:
    """Read to the end, which verifies checksums; note bytes that belong to nothing.

    Raises:
        ImageError: ``IMAGE_TOO_LARGE`` where more than 64 MiB follow the voxels.
    """
    extra = 0
    while block := source.read(INFLATE_BYTES):
        extra += len(block)
        if extra > TRAILING_LIMIT_BYTES:
            problem = f"more than {TRAILING_LIMIT_BYTES >> 20} MiB follow the voxels"
            raise ImageError("IMAGE_TOO_LARGE", case, problem, "write the image again with a tool that you trust")
    extra += source.raw.trailing_bytes if isinstance(source.raw, Inflated) else 0
    return (make_note("TRAILING_DATA", f"{extra} bytes follow the voxels"),) if extra else ()


def _truncation_error(case: object, problem: str) -> ImageError:
    return ImageError("IMAGE_TRUNCATED", case, problem)
