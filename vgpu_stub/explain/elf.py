"""Which symbols a shared object exports: as much of ELF as that takes."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Final

_SECTION: Final = struct.Struct("<IIQQQQIIQQ")
_SYMBOL: Final = struct.Struct("<IBBHQQ")
_DYNAMIC_SYMBOLS: Final = 11


def exported_symbols(path: Path) -> frozenset[str]:
    """Names that a 64-bit little-endian shared object defines; none where it is no such file."""
    try:
        data = path.read_bytes()
        if data[:6] != b"\x7fELF\x02\x01":
            return frozenset()
        (offset,) = struct.unpack_from("<Q", data, 0x28)
        (count,) = struct.unpack_from("<H", data, 0x3C)
        sections = [
            _SECTION.unpack_from(data, offset + index * _SECTION.size) for index in range(count)
        ]
        for _, kind, _, _, start, size, link, *_ in sections:
            if kind == _DYNAMIC_SYMBOLS:
                names = sections[link][4]
                return frozenset(_names(data, start, size, names))
    except (OSError, struct.error, IndexError):
        return frozenset()
    return frozenset()


def _names(data: bytes, start: int, size: int, names: int) -> list[str]:
    found = []
    for name, _, _, section, _, _ in _SYMBOL.iter_unpack(data[start : start + size]):
        if section and name:
            end = data.index(b"\0", names + name)
            found.append(data[names + name : end].decode(errors="replace"))
    return found
