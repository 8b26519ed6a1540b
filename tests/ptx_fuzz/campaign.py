"""Many cases, shared among child processes; the failures, reduced and written down."""

from __future__ import annotations

import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from .case import Case
from .judge import Judgement
from .reducer import Reducer
from .workers import Job, Worker

#: For campaigns: the general translation always, the checkers now and then.
THOROUGH = (("optimised", "general", "checked"), *[("optimised", "general")] * 3)
#: For each run of the tests: one of them now and then.
QUICK = (("optimised", "general"), ("optimised", "checked"), *[("optimised",)] * 6)


@dataclass(frozen=True, slots=True)
class Failure:
    """A case that somebody must look at."""

    job: Job
    judgement: Judgement

    def __str__(self) -> str:
        judgement = self.judgement
        name = f"{self.job.kind} {self.job.seed}" if not self.job.text else "the case"
        return f"{name}: {judgement.verdict.value}: {judgement.detail}"


@dataclass(slots=True)
class Tally:
    """What came out of a campaign."""

    counts: Counter[str] = field(default_factory=Counter)
    failures: list[Failure] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def total(self) -> int:
        """Cases that were judged."""
        return sum(self.counts.values())


def jobs(seed: int, programs: int, mutations: int, ways: Sequence[tuple[str, ...]]) -> list[Job]:
    """The cases of a campaign: seeds from `seed` on, mutations spread among the programs.

    Programs are translated in each of the `ways` in turn; see `Runner`.
    """
    made = [Job("program", seed + index, ways=ways[index % len(ways)]) for index in range(programs)]
    step = max(1, (programs + mutations) // max(mutations, 1))
    for index in range(mutations):
        made.insert(min(len(made), index * step), Job("mutation", seed + index))
    return made


def run(
    todo: Iterable[Job],
    workers: int,
    progress: Callable[[Tally], None] = lambda tally: None,
    limit_s: float = 120.0,
) -> Tally:
    """Judge all jobs with so many children; `progress` is told of each case."""
    waiting: queue.SimpleQueue[Job] = queue.SimpleQueue()
    for job in todo:
        waiting.put(job)
    tally, lock, start = Tally(), threading.Lock(), time.monotonic()

    def serve() -> None:
        with Worker(limit_s) as worker:
            while True:
                try:
                    job = waiting.get_nowait()
                except queue.Empty:
                    return
                judgement = worker.judge(job)
                with lock:
                    tally.counts[f"{job.kind} {judgement.verdict.value}"] += 1
                    if judgement.verdict.is_failure:
                        tally.failures.append(Failure(job, judgement))
                    tally.seconds = time.monotonic() - start
                    progress(tally)

    threads = [threading.Thread(target=serve) for _ in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return tally


def reduce(failure: Failure, seconds: float = 120.0) -> Case:
    """The smallest case found that ends with the same verdict."""
    verdict = failure.judgement.verdict
    with Worker(20.0) as worker:

        def fails(case: Case) -> bool:
            job = replace(failure.job, text=case.write(), strict=True)
            return worker.judge(job).verdict is verdict

        return Reducer(fails, seconds).reduce(failure.job.case())


def write_reproduction(failure: Failure, case: Case, folder: Path) -> Path:
    """Write a case as a PTX file that says how to run it again."""
    folder.mkdir(parents=True, exist_ok=True)
    kind = failure.job.kind
    path = folder / f"{kind}_{failure.job.seed}.ptx"
    option = " --mutations" if kind == "mutation" else ""
    path.write_text(
        f"// {failure}\n"
        f"// Reproduce: python -m tests.ptx_fuzz --case {path}{option}\n{case.write()}"
    )
    return path


def describe(tally: Tally) -> str:
    """One line: how many, how fast, how they ended."""
    rate = tally.total / tally.seconds if tally.seconds else 0.0
    ends = ", ".join(f"{count} {name}" for name, count in sorted(tally.counts.items()))
    return f"{tally.total} cases in {tally.seconds:.0f} s ({rate:.1f} a second): {ends}"
