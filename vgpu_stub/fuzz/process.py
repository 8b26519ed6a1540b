"""The parent's side of a child process: jobs out, findings in, deaths and hangs noticed."""

from __future__ import annotations

import json
import mmap
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from vgpu_stub.fuzz.child import PROGRESS
from vgpu_stub.fuzz.operations import Operation, to_json

_LAST_BYTES: Final = 6000


@dataclass(frozen=True)
class Failure:
    """A sequence that shows a finding.

    Attributes:
        signature: Short, to tell findings apart.
        detail: Traceback or last output.
        number: Number of the sequence; -1 for one that was given.
        operations: The sequence as JSON; "" when the child died before it could tell.
    """

    signature: str
    detail: str
    number: int = -1
    operations: str = ""


class ChildProcess:
    """One child; a context manager that ends it."""

    def __init__(
        self, target: str, seed: int, limit_s: float = 30.0, corpus: Path | None = None
    ) -> None:
        """Prepare; the process starts at the first job.

        Args:
            target: Name of the target, or module:Class.
            seed: Of the sequences.
            limit_s: Seconds that one sequence may take.
            corpus: Folder of kept sequences, or None to keep none.
        """
        self._command = [sys.executable, "-m", "vgpu_stub.fuzz.child", target, "--seed", str(seed)]
        self._corpus = corpus
        self._limit_s = limit_s
        self._progress_fd = os.memfd_create("fuzz-progress", os.MFD_CLOEXEC)
        os.ftruncate(self._progress_fd, mmap.PAGESIZE)
        self._progress = mmap.mmap(self._progress_fd, mmap.PAGESIZE)
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  # closed by `close`
        self._process: subprocess.Popen[bytes] | None = None
        #: Sequences and operations of processes that have ended.
        self._finished = [0, 0]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def done(self) -> tuple[int, int]:
        """Sequences and operations carried out so far."""
        _, sequences, operations = PROGRESS.unpack_from(self._progress)
        return self._finished[0] + sequences, self._finished[1] + operations

    def run_range(self, first: int, count: int, step: int = 1) -> Iterator[Failure]:
        """Run sequences by number; what kills or hangs the child is a failure like another."""
        end = first + count * step
        while first < end:
            self._send({"range": [first, (end - first + step - 1) // step, step]})
            while (answer := self._receive()) is not None and "done" not in answer:
                yield Failure(
                    str(answer["finding"]),
                    str(answer["detail"]),
                    int(str(answer["number"])),
                    str(answer["operations"]),
                )
            if answer is not None:
                return
            number = PROGRESS.unpack_from(self._progress)[0]
            yield self._death(number)
            first = number + step

    def judge(self, operations: Sequence[Operation]) -> Failure | None:
        """Run one sequence in a world of its own."""
        self._send({"operations": to_json(operations)})
        answer = self._receive()
        if answer is None:
            return self._death(-1)
        if answer["finding"] is None:
            return None
        return Failure(str(answer["finding"]), str(answer["detail"]))

    def _send(self, job: dict[str, object]) -> None:
        if self._process is None:
            PROGRESS.pack_into(self._progress, 0, 0, 0, 0)
            fd = self._progress_fd
            corpus = ["--corpus", str(self._corpus)] if self._corpus else []
            self._process = subprocess.Popen(
                [*self._command, "--progress", str(fd), *corpus],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                pass_fds=(fd,),
                env={
                    **os.environ,
                    "PYTHONPATH": os.pathsep.join(sys.path),
                    "OPENBLAS_NUM_THREADS": "1",
                },
            )
            self._buffer = b""
        assert self._process.stdin
        self._process.stdin.write((json.dumps(job) + "\n").encode())
        self._process.stdin.flush()

    def _receive(self) -> dict[str, object] | None:
        """The next answer; None when the child is dead, killed here if it hung."""
        assert self._process and self._process.stdout
        fd = self._process.stdout.fileno()
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        seen, since = PROGRESS.unpack_from(self._progress), time.monotonic()
        while b"\n" not in self._buffer:
            if poll.poll(500):
                data = os.read(fd, 1 << 16)
                if not data:
                    self._process.wait()
                    return None
                self._buffer += data
            now = PROGRESS.unpack_from(self._progress)
            if now != seen:
                seen, since = now, time.monotonic()
            elif time.monotonic() - since > self._limit_s:
                self._process.send_signal(signal.SIGABRT)  # faulthandler shows where it was
                self._process.wait()
                return None
        line, _, self._buffer = self._buffer.partition(b"\n")
        answer: dict[str, object] = json.loads(line)
        return answer

    def _death(self, number: int) -> Failure:
        assert self._process
        status = self._process.returncode
        self._end()
        size = self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, size - _LAST_BYTES))
        detail = self._errors.read().decode(errors="replace")
        if status == -signal.SIGABRT and "Fatal Python error: Aborted" in detail:
            return Failure(f"no end within {self._limit_s:g} s", detail, number)
        name = signal.Signals(-status).name if status < 0 else f"exit status {status}"
        return Failure(f"the process died: {name}", detail, number)

    def _end(self) -> None:
        if self._process is None:
            return
        _, sequences, operations = PROGRESS.unpack_from(self._progress)
        self._finished[0] += sequences
        self._finished[1] += operations
        PROGRESS.pack_into(self._progress, 0, 0, 0, 0)
        for stream in (self._process.stdin, self._process.stdout):
            assert stream
            try:
                stream.close()
            except BrokenPipeError:  # what the dead child did not read
                continue
        try:
            self._process.wait(5.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def close(self) -> None:
        """End the child."""
        self._end()
        self._progress.close()
        os.close(self._progress_fd)
        self._errors.close()
