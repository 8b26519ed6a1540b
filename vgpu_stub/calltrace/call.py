"""CUDA calls as the journal of the library has them, put together from its lines."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from vgpu_host.demangle import demangle
from vgpu_stub.abi.journal import CallRecord, EnterRecord, NoteRecord, parse_record

#: Results that answer a question and are no failures.
_ANSWERS: Final = frozenset(("CUDA_SUCCESS", "CUDA_ERROR_NOT_READY"))
_NOT_SUPPORTED: Final = 801
_ARGUMENT: Final = re.compile(r'(\w+)=("(?:.*?)"(?:\.\.\.)?|[^,]*)(?:, (?=\w+=)|$)', re.DOTALL)
#: Parameters that take or give a kernel.
_KERNEL_PARAMETERS: Final = ("f", "hfunc", "func", "kernel", "pKernel", "pFunc")


@dataclass(frozen=True)
class TracedCall:
    """A CUDA call.

    Attributes:
        pid: Process id, as the program sees it.
        tid: Thread id; that of the first thread is the process id.
        begin_ns: When it began, CLOCK_MONOTONIC of where the program ran.
        duration_ns: How long it took; for a call without an end, until the trace ended.
        function: Name of the exported function, with its version.
        arguments: Values by name, as text; what a call gave is in brackets.
        status: CUresult; None for a call without an end.
        error: Name of the CUresult; "" for a call without an end.
        kernel: The kernel that an argument names, demangled, or "".
        first_command: Number of the first command that it put into the ring, from 1; 0 for none.
        last_command: Number of the last one.
        answered: Sequence of the last command whose answer it waited for; 0 for none.
        notes: Reasons that the library gave in words meanwhile.
    """

    pid: int
    tid: int
    begin_ns: int
    duration_ns: int
    function: str
    arguments: dict[str, str]
    status: int | None
    error: str
    kernel: str = ""
    first_command: int = 0
    last_command: int = 0
    answered: int = 0
    notes: tuple[str, ...] = ()

    @property
    def failed(self) -> bool:
        """Whether it returned an error, or never; "not ready" is an answer."""
        return self.error not in _ANSWERS

    @property
    def end_ns(self) -> int:
        """When it returned."""
        return self.begin_ns + self.duration_ns


@dataclass(frozen=True)
class TracedProcess:
    """A process has loaded the library."""

    pid: int
    parent: int
    program: str


@dataclass(frozen=True)
class OpenCall:
    """A call that has not returned yet."""

    pid: int
    tid: int
    begin_ns: int
    function: str


Traced = TracedCall | TracedProcess


class CallReader:
    """Puts calls together from lines of journals; lines that make no sense are left out."""

    def __init__(self) -> None:
        self._open: dict[tuple[int, int], OpenCall] = {}
        self._kernels: dict[tuple[int, str], str] = {}
        self._notes: dict[tuple[int, int], list[str]] = {}

    @property
    def open_calls(self) -> list[OpenCall]:
        """Calls that have not returned yet, the longest first."""
        return sorted(self._open.values(), key=lambda call: call.begin_ns)

    def read(self, lines: Iterable[tuple[int, bytes]]) -> list[Traced]:
        """What lines tell, in the order in which calls returned.

        Args:
            lines: Lines with the ids of their processes, each process's in order.
        """
        processes: list[Traced] = []
        calls: list[TracedCall] = []
        for pid, line in lines:
            try:
                event = json.loads(line)
                if event["event"] == "load":
                    processes.append(TracedProcess(pid, event["parent"], event["program"]))
                elif call := self._call(pid, event):
                    calls.append(call)
            except (KeyError, TypeError, ValueError):
                continue
        return processes + sorted(calls, key=lambda call: call.end_ns)

    def unfinished(self, end_ns: int) -> list[TracedCall]:
        """Calls that never returned, as calls that lasted until `end_ns`."""
        return [
            TracedCall(
                call.pid,
                call.tid,
                call.begin_ns,
                max(0, end_ns - call.begin_ns),
                call.function,
                {},
                None,
                "",
            )
            for call in self.open_calls
        ]

    def _call(self, pid: int, event: dict[str, Any]) -> TracedCall | None:
        record = parse_record(event)
        if record is None:
            return None
        thread = pid, record.tid
        if isinstance(record, NoteRecord):
            self._notes.setdefault(thread, []).append(record.text)
            return None
        if isinstance(record, EnterRecord):
            self._notes.pop(thread, None)
            self._open[thread] = OpenCall(*thread, record.begin_ns, record.function)
            return None
        if isinstance(record, CallRecord):
            self._open.pop(thread, None)
            arguments = split_arguments(record.arguments)
            return TracedCall(
                *thread,
                record.begin_ns,
                record.duration_ns,
                record.function,
                arguments,
                record.status,
                record.error,
                self._kernel(pid, arguments),
                record.first_command,
                record.last_command,
                record.answered,
                tuple(self._notes.pop(thread, ())),
            )
        if record.within:
            return None
        # A function that is only there to refuse: the library knows nothing of its parameters.
        return TracedCall(
            *thread,
            record.begin_ns,
            0,
            record.function,
            {},
            _NOT_SUPPORTED,
            "CUDA_ERROR_NOT_SUPPORTED",
        )

    def _kernel(self, pid: int, arguments: dict[str, str]) -> str:
        """The kernel that a call was given; remembers which handle a call gave for which name."""
        values = [arguments[name] for name in _KERNEL_PARAMETERS if name in arguments]
        known = next(filter(None, (self._kernels.get((pid, value)) for value in values)), "")
        name = known or demangle(arguments.get("name", "").strip('"'))
        for value in values:
            if value.startswith("[") and name:
                self._kernels[pid, value.strip("[]")] = name
        return known


def split_arguments(text: str) -> dict[str, str]:
    """Take "name=value, name=value" apart."""
    found = {match[1]: match[2] for match in _ARGUMENT.finditer(text)}
    return {name: "NULL" if value == "(nil)" else value for name, value in found.items()}
