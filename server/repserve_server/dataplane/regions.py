"""Shared-memory regions that clients have registered, as one frontend holds them."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from repserve_server.errors import InvalidRequestError, NotAllowedError

if TYPE_CHECKING:
    from repserve_server.channel.requests import Region

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - where Linux keeps what shm_open makes
_LARGEST_NAME = 255


class Regions:
    """Reads and writes parts of POSIX shared-memory objects.

    They are read and written as files, not mapped: a client that makes its object smaller meanwhile would end the
    process that touches a mapping of it. The price is one copy, about 15 microseconds for an image of 150 KB.
    """

    def __init__(self, folder: Path = SHARED_MEMORY) -> None:
        self._folder = folder
        self._regions: dict[str, tuple[Region, int]] = {}

    def open(self, region: Region) -> None:
        """Open a region; one of the same name is closed.

        Raises:
            InvalidRequestError: there is no such object, or it does not hold the region.
            NotAllowedError: this process may not open it.
        """
        descriptor = self._open_object(region.key)
        try:
            _check_holds(os.fstat(descriptor), region)
        except InvalidRequestError:
            os.close(descriptor)
            raise
        self.close(region.name)
        self._regions[region.name] = (region, descriptor)

    def close(self, name: str) -> None:
        """Forget a region; an unknown one is no error."""
        _, descriptor = self._regions.pop(name, (None, -1))
        if descriptor >= 0:
            os.close(descriptor)

    def read(self, name: str, offset: int, size: int) -> memoryview:
        """Copy a part of a region.

        Raises:
            InvalidRequestError: there is no such region, or it has no such part.
        """
        region, descriptor = self._find(name, offset, size)
        content = bytearray(size)
        got = os.preadv(descriptor, [content], region.offset + offset)
        if got < size:
            raise _shrunk(region)
        return memoryview(content)

    def write(self, name: str, offset: int, room: int, content: bytes) -> None:
        """Write into a part of a region, which has ``room`` bytes.

        Raises:
            InvalidRequestError: there is no such region or part, or the content does not fit.
            NotAllowedError: the object is not this process's to write to.
        """
        region, descriptor = self._find(name, offset, room)
        if len(content) > room:
            raise InvalidRequestError(
                f"the output has {len(content)} bytes, but its place in region {name!r} has {room}; make it larger"
            )
        # Writing behind the end would make a shrunken object larger again, without its owner's knowledge.
        if os.fstat(descriptor).st_size < region.offset + offset + len(content):
            raise _shrunk(region)
        try:
            os.pwrite(descriptor, content, region.offset + offset)
        except OSError as error:
            raise NotAllowedError(f"cannot write to region {name!r}: {error.strerror}") from error

    def _find(self, name: str, offset: int, size: int) -> tuple[Region, int]:
        found = self._regions.get(name)
        if found is None:
            raise InvalidRequestError(f"there is no shared-memory region {name!r}; register it first")
        region, descriptor = found
        if offset < 0 or size < 0 or offset + size > region.byte_size:
            raise InvalidRequestError(
                f"bytes {offset} to {offset + size} are outside region {name!r}, which has {region.byte_size}"
            )
        return region, descriptor

    def _open_object(self, key: str) -> int:
        name = key.removeprefix("/")
        if name in ("", ".", "..") or "/" in name or "\0" in name or len(name.encode()) > _LARGEST_NAME:
            raise InvalidRequestError(
                f"{key!r} does not name a shared-memory object; expected no slash but a leading one"
            )
        path = self._folder / name
        flags = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        try:
            try:
                return os.open(path, os.O_RDWR | flags)
            except PermissionError:
                return os.open(path, os.O_RDONLY | flags)
        except OSError as error:
            if error.errno == errno.ENOENT:
                raise InvalidRequestError(f"there is no shared-memory object {key!r} on this machine") from error
            raise NotAllowedError(f"cannot open shared-memory object {key!r}: {error.strerror}") from error


def _check_holds(status: os.stat_result, region: Region) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise InvalidRequestError(f"{region.key!r} is not a shared-memory object")
    end = region.offset + region.byte_size
    if region.offset < 0 or region.byte_size < 1 or end > status.st_size:
        raise InvalidRequestError(
            f"region {region.name!r} is bytes {region.offset} to {end} of {region.key!r}, which has {status.st_size}"
        )


def _shrunk(region: Region) -> InvalidRequestError:
    return InvalidRequestError(f"{region.key!r} has shrunk since region {region.name!r} was registered")
