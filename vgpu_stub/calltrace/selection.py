"""Which calls a trace shows: names, patterns, groups, and their opposites."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Final

from vgpu_stub.calltrace.call import TracedCall

#: Groups of functions, by the patterns that name them.
GROUPS: Final = {
    "launch": ("cuLaunch*", "cuGraphLaunch*"),
    "memory": ("cuMem*", "cuArray*", "cuPointer*"),
    "copy": ("cuMemcpy*",),
    "wait": ("cu*Synchronize",),
    "module": ("cuModule*", "cuLibrary*", "cuLink*", "cuFunc*", "cuKernel*"),
    "context": ("cuCtx*", "cuDevicePrimaryCtx*"),
    "device": ("cuInit", "cuDriver*", "cuDeviceGet*", "cuDeviceTotalMem*", "cuDeviceCan*"),
    "stream": ("cuStream*",),
    "event": ("cuEvent*",),
    "graph": ("cuGraph*",),
}
_PATTERN: Final = re.compile(r"(cu|nvml|[*?])[\w*?]*")
_SUFFIXES: Final = re.compile(r"(_v\d+)?(_ptsz|_ptds)?$")


class SelectionError(ValueError):
    """An expression names no group and is no pattern of function names."""


def plain_name(function: str) -> str:
    """A function's name without its version: cuMemAlloc for cuMemAlloc_v2."""
    return _SUFFIXES.sub("", function)


class Selection:
    """Which calls are wanted.

    Args:
        expressions: Each a list, separated by commas, of groups, names and patterns (`cuMem*`); a
            `!` before one takes away. The last that fits a call decides. Where the first takes
            away, all others are wanted.
        failed_only: Only calls that failed.

    Raises:
        SelectionError: There is no such group.
    """

    def __init__(self, expressions: Sequence[str] = (), *, failed_only: bool = False) -> None:
        self._failed_only = failed_only
        self._terms: list[tuple[bool, tuple[str, ...]]] = []
        for word in (word.strip() for text in expressions for word in text.split(",")):
            name = word.removeprefix("!")
            patterns = GROUPS.get(name) or (name,)
            if name not in GROUPS and not _PATTERN.fullmatch(name):
                raise SelectionError(
                    f"{word!r} is neither a group ({', '.join(GROUPS)}) nor the name or pattern of"
                    " functions, as cuMemAlloc or cuMem*"
                )
            self._terms.append((not word.startswith("!"), patterns))

    def wants(self, call: TracedCall) -> bool:
        """Whether a call is wanted."""
        return (call.failed or not self._failed_only) and self.wants_function(call.function)

    def wants_function(self, function: str) -> bool:
        """Whether calls of a function are wanted."""
        names = function, plain_name(function)
        wanted = not self._terms or not self._terms[0][0]
        for keep, patterns in self._terms:
            if any(fnmatchcase(name, pattern) for name in names for pattern in patterns):
                wanted = keep
        return wanted
