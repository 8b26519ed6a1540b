"""A campaign: one target, many processes, for a number of sequences or a time."""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from vgpu_stub.fuzz.child import sequence_of
from vgpu_stub.fuzz.operations import Operation, from_json, to_json
from vgpu_stub.fuzz.process import ChildProcess, Failure
from vgpu_stub.fuzz.reducer import reduce_sequence
from vgpu_stub.fuzz.regression import write_regression
from vgpu_stub.fuzz.targets import make_target

#: Sequences that a process is given at a time.
_CHUNK: Final = 200


@dataclass(frozen=True)
class Settings:
    """What a campaign does.

    Attributes:
        target: Name of the target, or module:Class.
        seed: The same seed makes the same sequences, as long as no corpus takes part.
        sequences: How many; 0 for no limit.
        seconds: How long; 0 for no limit.
        jobs: Processes at a time.
        corpus: Folder of kept sequences, or None to keep none.
        output: Folder where failures are written.
        reduce_s: Seconds that making one failure small may take; 0 leaves it as it is.
        limit_s: Seconds that one sequence may take.
    """

    target: str
    seed: int
    sequences: int = 0
    seconds: float = 0.0
    jobs: int = 1
    corpus: Path | None = None
    output: Path = Path("fuzz-failures")
    reduce_s: float = 60.0
    limit_s: float = 30.0


@dataclass
class Found:
    """Failures of one kind: the first, how many, and the file that shows it."""

    failure: Failure
    count: int = 1
    path: Path | None = None


@dataclass
class Tally:
    """What a campaign has come to."""

    settings: Settings
    sequences: int = 0
    operations: int = 0
    seconds: float = 0.0
    found: dict[str, Found] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        """Operations a second, of all processes together."""
        return self.operations / self.seconds if self.seconds else 0.0

    def as_json(self) -> dict[str, object]:
        """For machines."""
        return {
            "target": self.settings.target,
            "seed": self.settings.seed,
            "sequences": self.sequences,
            "operations": self.operations,
            "seconds": round(self.seconds, 1),
            "operations_per_second": round(self.rate),
            "findings": [
                {"signature": name, "count": found.count, "file": str(found.path or "")}
                for name, found in self.found.items()
            ],
        }

    def __str__(self) -> str:
        kinds = Counter({name: found.count for name, found in self.found.items()})
        shown = ", ".join(f"{count} x {name}" for name, count in kinds.most_common())
        return (
            f"{self.settings.target}: {self.operations} cases in {self.sequences} sequences, "
            f"{self.seconds:.0f} s ({self.rate:.0f} cases a second), seed {self.settings.seed}: "
            + (shown or "no failure")
        )


def run_campaign(
    settings: Settings, progress: Callable[[Tally], None] = lambda tally: None
) -> Tally:
    """Run a campaign to its end; `progress` is told about once a second and of each finding."""
    tally = Tally(settings)
    lock = threading.Lock()
    chunks = itertools.count()
    start = time.monotonic()
    children = [
        ChildProcess(settings.target, settings.seed, settings.limit_s, settings.corpus)
        for _ in range(settings.jobs)
    ]

    def next_chunk() -> tuple[int, int]:
        with lock:
            first = next(chunks) * _CHUNK
        if settings.seconds and time.monotonic() - start > settings.seconds:
            return first, 0
        left = settings.sequences - first if settings.sequences else _CHUNK
        return first, max(0, min(_CHUNK, left))

    def update() -> None:
        done = [child.done for child in children]
        tally.sequences = sum(sequences for sequences, _ in done)
        tally.operations = sum(operations for _, operations in done)
        tally.seconds = time.monotonic() - start

    def work(child: ChildProcess) -> None:
        while (chunk := next_chunk())[1]:
            for failure in child.run_range(*chunk):
                _note(tally, failure, lock)
            with lock:
                update()
                progress(tally)

    threads = [threading.Thread(target=work, args=(child,)) for child in children]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    update()
    for child in children:
        child.close()
    for found in tally.found.values():
        found.path = _write(settings, found.failure)
    return tally


def _note(tally: Tally, failure: Failure, lock: threading.Lock) -> None:
    with lock:
        known = tally.found.get(failure.signature)
        if known:
            known.count += 1
        else:
            tally.found[failure.signature] = Found(failure)


def _write(settings: Settings, failure: Failure) -> Path:
    """Make a failure small and write it down."""
    target = make_target(settings.target)
    if failure.operations:
        operations = from_json(failure.operations, target.kinds)
    else:
        operations = sequence_of(target, settings.seed, failure.number)
    if settings.reduce_s:
        operations = reduce_failure(settings, failure.signature, operations)
    settings.output.mkdir(parents=True, exist_ok=True)
    path = write_regression(
        settings.output,
        settings.target,
        failure.signature,
        operations,
        f"vgpu-stub fuzz {settings.target} --seed {settings.seed}",
    )
    path.with_suffix(".json").write_text(to_json(operations))
    path.with_suffix(".txt").write_text(
        f"{failure.signature}\nsequence {failure.number}\n\n{failure.detail}\n"
    )
    return path


def reduce_failure(
    settings: Settings, signature: str, operations: list[Operation]
) -> list[Operation]:
    """The smallest sequence found that fails alike in a world of its own.

    A failure that needed the sequences before it stays as it is.
    """
    with ChildProcess(settings.target, settings.seed, settings.limit_s) as child:

        def fails(candidate: list[Operation]) -> bool:
            failure = child.judge(candidate)
            return failure is not None and failure.signature == signature

        if not fails(operations):
            return operations
        return reduce_sequence(operations, fails, settings.reduce_s)
