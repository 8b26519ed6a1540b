"""Names of C++ functions as people write them, by the C++ runtime of the machine."""

from __future__ import annotations

import ctypes
from functools import cache


@cache
def _runtime() -> ctypes.CDLL | None:
    try:
        library = ctypes.CDLL("libstdc++.so.6")
    except OSError:
        return None
    library.__cxa_demangle.restype = ctypes.c_void_p
    library.__cxa_demangle.argtypes = (ctypes.c_char_p, *(ctypes.c_void_p,) * 3)
    library.free.argtypes = (ctypes.c_void_p,)
    return library


def demangle(name: str) -> str:
    """A mangled name with its parameters, such as "scale(float*, int)"; any other as it is."""
    library = _runtime()
    if library is None or not name.startswith("_Z"):
        return name
    status = ctypes.c_int()
    found = library.__cxa_demangle(name.encode(), None, None, ctypes.addressof(status))
    if not found:
        return name
    text = ctypes.string_at(found).decode(errors="replace")
    library.free(found)
    return text
