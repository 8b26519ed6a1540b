"""Lies to the libraries, without a VM: libcuda, libcudart and libnvidia-ml built with sanitizers.

A program of ours (`guest/cuda/tests/lied_to.c`) forks a child for each lie; the child connects to a
lying device in this process, calls what there is to call, and says what came back. Sanitizers and a
deadline watch it.
"""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import Final, Self

from vgpu_host.executors.options import ExecutorOptions
from vgpu_stub.vfio_user import ConnectedClient, Server
from vgpu_stub.villain.device.liar import LyingGpu
from vgpu_stub.villain.device.lie import Case, Expect, Lie, Target
from vgpu_stub.villain.device.result import Result
from vgpu_stub.villain.device.suite import skipped
from vgpu_stub.villain.device.workers import LyingWorkers
from vgpu_stub.villain.registry import Verdict

#: The test program that is the victim.
PROGRAM: Final = "lied_to"
_DEVICE_BYTES: Final = 64 << 20
#: How long a library waits for the admin channel and for messages; the libraries' own default is
#: longer than a suite can wait.
_LIBRARY_TIMEOUT_S: Final = 1
_SIGALRM: Final = 14
#: After the child's own alarm the program is given up.
_GRACE_S: Final = 10.0
_REPORT_BYTES: Final = 3000


@dataclass
class Told:
    """What the child said.

    Attributes:
        calls: Name and status of each call.
        wrong: Answers that claimed success and were wrong.
        signal: That ended it, or 0.
        status: Its exit status.
        report: What the sanitizers wrote.
    """

    calls: list[tuple[str, int]] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    signal: int = 0
    status: int = 0
    report: str = ""

    @property
    def failures(self) -> int:
        """Calls that returned an error."""
        return sum(status != 0 for _, status in self.calls)

    def take(self, line: str) -> bool:
        """Take a line of the program; True when it is the last about this child."""
        word, _, rest = line.partition(" ")
        if word == "call":
            name, _, status = rest.rpartition(" ")
            self.calls.append((name, int(status)))
        elif word == "wrong":
            self.wrong.append(rest)
        elif word == "end":
            kind, _, number = rest.partition(" ")
            if kind == "signal":
                self.signal = int(number)
            else:
                self.status = int(number)
        return word == "end"


class LibraryVictim:
    """The libraries as victims, behind one lying server; a context manager."""

    def __init__(self, build: Path) -> None:
        """Prepare.

        Args:
            build: Folder of the libraries built with sanitizers.
        """
        self._build = build
        self._stack = contextlib.ExitStack()
        self._device: LyingGpu | None = None

    def __enter__(self) -> Self:
        options = ExecutorOptions("software", memory_bytes=_DEVICE_BYTES, threads=1)
        self._workers = LyingWorkers(options)
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="vgpu-liar")))
        self._socket = folder / "device.sock"
        self._errors = self._stack.enter_context((folder / "stderr").open("w+b"))
        self._stack.enter_context(Server(self._socket, self._make_device))
        self._start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._end()
        self._stack.close()

    def try_case(self, case: Case, seed: int, round_number: int = 0) -> Result:
        """Tell a lie and judge what came of it."""
        result = skipped(case, Target.LIBRARY, round_number)
        if result:
            return result
        start = monotonic()
        told = self.tell(case.lie(seed, round_number), case.seconds)
        verdict, text = judge(case, told)
        return Result(
            case.id,
            case.section,
            Target.LIBRARY,
            round_number,
            verdict,
            text,
            monotonic() - start,
        )

    def finish(self) -> None:
        """Nothing: every child's leaks are looked for when it ends."""

    def tell(self, lie: Lie, seconds: float) -> Told:
        """Have a child meet a device that tells a lie."""
        self._workers.lie = self._lie = lie
        self._errors.truncate(0)
        self._errors.seek(0)
        assert self._program.stdin is not None
        self._program.stdin.write(f"{max(1, round(seconds))} {self._socket}\n".encode())
        self._program.stdin.flush()
        return self._listen(seconds + _GRACE_S)

    def _make_device(self) -> LyingGpu:
        return _ClosingGpu(self._workers, self._lie)

    def _start(self) -> None:
        environment = {
            **os.environ,
            "LD_LIBRARY_PATH": str(self._build),
            "VGPU_STUB_TIMEOUT": str(_LIBRARY_TIMEOUT_S),
            "ASAN_OPTIONS": "exitcode=23:detect_leaks=1:allocator_may_return_null=1",
            "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1:exitcode=23",
            "LSAN_OPTIONS": "exitcode=23",
        }
        self._program = subprocess.Popen(
            [self._build / "tests" / PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=environment,
        )

    def _end(self) -> None:
        self._program.kill()
        for pipe in (self._program.stdin, self._program.stdout):
            if pipe:
                pipe.close()
        self._program.wait()

    def _listen(self, seconds: float) -> Told:
        assert self._program.stdout is not None
        out = self._program.stdout.fileno()
        told = Told()
        rest = b""
        deadline = monotonic() + seconds
        while True:
            left = deadline - monotonic()
            ready, _, _ = select.select([out], [], [], max(0.0, left))
            data = os.read(out, 65536) if ready else b""
            if not data:  # the program itself is gone, or hangs
                told.signal = _SIGALRM
                self._end()
                self._start()
                break
            *lines, rest = (rest + data).split(b"\n")
            if any(told.take(line.decode(errors="replace")) for line in lines):
                break
        self._errors.seek(0)
        told.report = self._errors.read().decode(errors="replace")
        return told


class _ClosingGpu(LyingGpu):
    """A device that ends with its client."""

    def client_disconnected(self, client: ConnectedClient) -> None:
        super().client_disconnected(client)
        self.close()


def judge(case: Case, told: Told) -> tuple[Verdict, str]:
    """The verdict on what a child said of a lie, and why."""
    if told.signal == _SIGALRM:
        last = told.calls[-1][0] if told.calls else "nothing"
        if case.expect is Expect.STUCK:
            return Verdict.PASS, f"waits after {last}, and could be ended"
        return Verdict.WEDGED, f"no answer in {case.seconds:g} s after {last}"
    if told.signal or told.status:
        how = f"signal {told.signal}" if told.signal else f"exit status {told.status}"
        return Verdict.FAIL, f"ended with {how}\n{told.report[:_REPORT_BYTES]}"
    if told.wrong and case.expect is not Expect.UNSEEN:
        return Verdict.FAIL, "; ".join(told.wrong)
    if case.expect is Expect.REFUSED and not told.failures:
        return Verdict.FAIL, f"all {len(told.calls)} calls claim success"
    return Verdict.PASS, f"{told.failures} of {len(told.calls)} calls failed"
