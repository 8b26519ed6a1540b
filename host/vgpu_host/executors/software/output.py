"""What kernels print: `printf` and messages of failed assertions, as bytes for the program.

Compiled code calls `DeviceOutput.callback` for each warp that prints. Formats, arguments and
strings lie in device memory; every read of them is checked against the arena.
"""

from __future__ import annotations

import ctypes
import logging
import re
import struct
import threading
from collections.abc import Callable, Iterator

from .codegen.state import OUTPUT_ASSERT, WORKER
from .ir import WARP_SIZE

_log = logging.getLogger(__name__)

_CALLBACK_TYPE = ctypes.CFUNCTYPE(
    None, ctypes.c_uint32, ctypes.c_void_p, ctypes.c_uint32, ctypes.c_void_p, ctypes.c_uint32
)
_CONVERSION = re.compile(
    rb"%(?P<flags>[-+ #0]*)(?P<width>\*|\d+)?(?:\.(?P<precision>\*|\d*))?"
    rb"(?P<length>hh|h|ll|l|j|z|t|L)?(?P<kind>[diouxXcspeEfFgGaA%])"
)
_LONG = (b"l", b"ll", b"j", b"z", b"t")
#: The longest string and the longest single conversion that are printed.
_LONGEST = 4096
_snprintf = ctypes.CDLL(None).snprintf


class DeviceOutput:
    """Collects the output of kernels until somebody takes it.

    Args:
        readable: says whether a range (address, size) is device memory.
        capacity: bytes kept between two `take`; what comes beyond is counted and dropped, as a
            GPU drops what exceeds its FIFO.
    """

    def __init__(self, readable: Callable[[int, int], bool], capacity: int = 1 << 20) -> None:
        self._readable = readable
        self.capacity = capacity
        self._text = bytearray()
        self._dropped = 0
        #: Bytes ever kept.
        self.total = 0
        self._lock = threading.Lock()
        self._callback = _CALLBACK_TYPE(self._receive)
        self.callback = ctypes.cast(self._callback, ctypes.c_void_p).value or 0
        self.block = (1, 1, 1)

    def take(self, limit: int | None = None) -> bytes:
        """The oldest output that was not taken, at most `limit` bytes of it."""
        with self._lock:
            text = bytes(self._text[:limit])
            del self._text[:limit]
            if self._dropped:
                _log.warning("%d lines that kernels printed did not fit", self._dropped)
                self._dropped = 0
            return text

    def _receive(self, kind: int, worker: int, active: int, arguments: int, warp: int) -> None:
        rows = (ctypes.c_uint64 * WARP_SIZE * 5).from_address(arguments)
        x, y, z = struct.unpack("<3I", ctypes.string_at(worker + WORKER["cta_x"], 12))
        for lane in range(WARP_SIZE):
            if not active >> lane & 1:
                continue
            if len(self._text) >= self.capacity:
                self._dropped += 1
                continue
            values = [row[lane] for row in rows]
            if kind == OUTPUT_ASSERT:
                text = self._assertion(values, (x, y, z), warp * WARP_SIZE + lane)
            else:
                text, rows[0][lane] = self._format(values[0], values[1])
            with self._lock:
                self._text += text
                self.total += len(text)

    def _assertion(self, values: list[int], cta: tuple[int, int, int], thread: int) -> bytes:
        message, file, line, function, _ = values
        x, y, _ = self.block
        place = (thread % x, thread // x % y, thread // x // y)
        return b"%s:%d: %s: block: [%d,%d,%d], thread: [%d,%d,%d] Assertion `%s` failed.\n" % (
            self._string(file),
            line & 0xFFFFFFFF,
            self._string(function),
            cta[0],
            cta[1],
            cta[2],
            *place,
            self._string(message),
        )

    def _string(self, address: int) -> bytes:
        if not address:
            return b"(null)"
        size = _LONGEST
        while size and not self._readable(address, size):
            size //= 2
        return ctypes.string_at(address, size).split(b"\0", 1)[0] if size else b"(bad address)"

    def _format(self, format_address: int, arguments: int) -> tuple[bytes, int]:
        """The text, and the number of arguments in it."""
        reader = _Arguments(arguments, self._readable)
        text = b"".join(self._pieces(self._string(format_address), reader))
        return text, reader.taken

    def _pieces(self, text: bytes, arguments: _Arguments) -> Iterator[bytes]:
        position = 0
        for found in _CONVERSION.finditer(text):
            yield text[position : found.start()]
            position = found.end()
            yield self._convert(found, arguments)
        yield text[position:]

    def _convert(self, found: re.Match[bytes], arguments: _Arguments) -> bytes:
        kind = found["kind"]
        if kind == b"%":
            return b"%"
        try:
            specification = b"%" + found["flags"]
            width = arguments.count(found["width"])
            if width is not None:
                specification += b"%d" % width
            precision = arguments.count(found["precision"])
            if precision is not None and precision >= 0:
                specification += b".%d" % precision
            if kind in b"eEfFgGaA":
                return _print(specification + kind, ctypes.c_double(arguments.real()))
            if kind == b"s":
                return _print(specification + kind, self._string(arguments.word(8)))
            if kind == b"p":
                return _print(specification + kind, ctypes.c_void_p(arguments.word(8)))
            if kind == b"c":
                return _print(specification + kind, ctypes.c_int(arguments.word(4)))
            size = 8 if found["length"] in _LONG else 4
            length = {b"hh": b"hh", b"h": b"h"}.get(found["length"], b"ll" if size == 8 else b"")
            number = ctypes.c_int64(arguments.word(size))
            return _print(specification + length + kind, number)
        except ValueError:
            return b"(bad address)"


class _Arguments:
    """Reads the packed arguments of one thread."""

    def __init__(self, address: int, readable: Callable[[int, int], bool]) -> None:
        self._address = address
        self._readable = readable
        self.taken = 0

    def word(self, size: int) -> int:
        """The next integer of 4 or 8 bytes, which is aligned to its size.

        Raises:
            ValueError: it does not lie in device memory.
        """
        start = -(-self._address // size) * size
        if not self._readable(start, size):
            raise ValueError(f"no argument at {start:#x}")
        self._address = start + size
        self.taken += 1
        return int.from_bytes(ctypes.string_at(start, size), "little")

    def real(self) -> float:
        """The next double."""
        number: float = struct.unpack("<d", self.word(8).to_bytes(8, "little"))[0]
        return number

    def count(self, text: bytes | None) -> int | None:
        """A width or precision: given, or `*` for the next argument; None when there is none."""
        if text is None:
            return None
        number = ctypes.c_int(self.word(4)).value if text == b"*" else int(text or b"0")
        return max(-_LONGEST, min(number, _LONGEST))


def _print(specification: bytes, value: object) -> bytes:
    buffer = ctypes.create_string_buffer(_LONGEST + 64)
    _snprintf(buffer, ctypes.c_size_t(len(buffer)), specification, value)
    return buffer.value
