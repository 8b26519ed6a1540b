"""Child processes that judge cases, so that a crash or a hang of one is a verdict like another."""

from __future__ import annotations

import faulthandler
import multiprocessing
import resource
import sys
from dataclasses import dataclass
from multiprocessing.connection import Connection

from .case import Case, read_case
from .generator import generate
from .judge import WAYS, Judge, Judgement, Verdict
from .mutations import mutate

#: Address space of a child: what a program may make the translator take of it.
_ADDRESS_SPACE = 12 << 30
_START = multiprocessing.get_context("spawn")


@dataclass(frozen=True, slots=True)
class Job:
    """What to judge: the program or mutation of a seed, or a case that is given.

    Attributes:
        kind: "program" or "mutation".
        seed: of the case, where `text` is empty.
        text: a written case.
        ways: how a program is translated; see `Runner`.
        strict: whether a program with a data race is no program.
    """

    kind: str
    seed: int = 0
    text: str = ""
    ways: tuple[str, ...] = WAYS
    strict: bool = False

    def case(self) -> Case:
        """The case itself."""
        if self.text:
            return read_case(self.text)
        return generate(self.seed) if self.kind == "program" else mutate(self.seed)


def _serve(connection: Connection) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (_ADDRESS_SPACE, _ADDRESS_SPACE))
    faulthandler.enable(sys.stderr)
    judge = Judge()
    while (job := connection.recv()) is not None:
        try:
            case = job.case()
            if job.kind == "program":
                found = judge.program(case, ways=job.ways, strict=job.strict)
            else:
                found = judge.mutation(case)
        except Exception as error:
            found = Judgement(Verdict.INVALID, f"the fuzzer itself: {error!r}")
        connection.send(found)
    judge.close()


class Worker:
    """One child; it is replaced when it dies.

    Args:
        limit_s: seconds after which a case counts as hung.
    """

    def __init__(self, limit_s: float = 120.0) -> None:
        self._limit = limit_s
        self._start()

    def _start(self) -> None:
        ours, theirs = _START.Pipe()
        self._process = _START.Process(target=_serve, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()
        self._connection = ours

    @property
    def pid(self) -> int:
        """Process that judges now."""
        assert self._process.pid is not None
        return self._process.pid

    def judge(self, job: Job) -> Judgement:
        """Judge one case, whatever becomes of the child."""
        try:
            self._connection.send(job)
            if self._connection.poll(self._limit):
                found = self._connection.recv()
                assert isinstance(found, Judgement)
                return found
            verdict, detail = Verdict.HUNG, f"longer than {self._limit:g} s"
            self._process.kill()
            self._process.join()
        except (EOFError, ConnectionError):
            self._process.join()
            verdict, detail = Verdict.CRASHED, f"exit status {self._process.exitcode}"
        self._connection.close()
        self._start()
        return Judgement(verdict, detail)

    def close(self) -> None:
        """End the child."""
        self._connection.send(None)
        self._process.join(10)
        if self._process.exitcode is None:
            self._process.kill()
            self._process.join()
        self._connection.close()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
