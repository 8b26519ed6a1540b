"""A child process of the fuzzer: a crash of the code under test is a result like another.

It reads jobs from its standard input and answers on its standard output, a JSON object a line.
While it works it keeps a page of shared memory up to date, from which the parent learns how far it
is, and, when it has died, at which sequence.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import json
import mmap
import os
import random
import resource
import struct
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from vgpu_stub.fuzz.corpus import Corpus
from vgpu_stub.fuzz.operations import Finding, Operation, from_json, to_json
from vgpu_stub.fuzz.target import Target
from vgpu_stub.fuzz.targets import make_target
from vgpu_stub.fuzz.values import mutated_sequence
from vgpu_stub.fuzz.watch import finding_of

#: Sequence that is running, sequences done, operations done.
PROGRESS: Final = struct.Struct("<QQQ")
#: How often a sequence of the corpus is changed instead of a new one made.
_FROM_CORPUS: Final = 0.3


def sequence_of(target: Target, seed: int, number: int) -> list[Operation]:
    """The sequence of a number: the same for the same seed."""
    return target.generate(random.Random(f"{target.name} {seed} {number}"))


class Child:
    """One target and its world."""

    def __init__(self, name: str, seed: int, progress: mmap.mmap, corpus: Path | None) -> None:
        self._name = name
        self._seed = seed
        self._progress = progress
        self._target = make_target(name)
        self._target.start()
        self._corpus = Corpus(corpus, self._target.kinds) if corpus else None
        self._sequences = 0
        self._operations = 0

    def judge(self, operations: Sequence[Operation]) -> Finding | None:
        """Run a sequence in a world of its own."""
        self._renew()
        found = self._run(operations)
        if found:
            self._renew()
        return found

    def run_range(self, first: int, count: int, step: int) -> None:
        """Run `count` numbers from `first` on, `step` apart, and tell of what is found."""
        for number in range(first, first + count * step, step):
            PROGRESS.pack_into(self._progress, 0, number, self._sequences, self._operations)
            operations = self._make(number)
            found = self._run(operations)
            if found:
                _tell(
                    finding=found.signature,
                    detail=found.detail,
                    number=number,
                    operations=to_json(operations),
                )
                self._renew()
        PROGRESS.pack_into(self._progress, 0, number, self._sequences, self._operations)

    def _make(self, number: int) -> list[Operation]:
        if self._corpus is not None and len(self._corpus):
            rng = random.Random(f"{self._name} {self._seed} {number} corpus")
            if rng.random() < _FROM_CORPUS:
                kept, other = self._corpus.choose(rng), self._corpus.choose(rng)
                return mutated_sequence(rng, kept, other)
        return sequence_of(self._target, self._seed, number)

    def _run(self, operations: Sequence[Operation]) -> Finding | None:
        try:
            ends = self._target.run(operations)
        except Finding as finding:
            return finding
        except Exception as error:  # the fuzzer's own errors are to be seen as well
            return finding_of(error, "outside of what the target expects")
        self._sequences += 1
        self._operations += len(ends)
        if self._corpus is not None:
            self._corpus.consider(operations, ends)
        return None

    def _renew(self) -> None:
        with contextlib.suppress(Exception):  # a world that has been broken may not close
            self._target.close()
        self._target = make_target(self._name)
        self._target.start()

    def serve(self) -> None:
        """Take jobs until the parent closes its end."""
        for line in sys.stdin:
            job = json.loads(line)
            if "range" in job:
                self.run_range(*job["range"])
                _tell(done=True)
            else:
                found = self.judge(from_json(job["operations"], self._target.kinds))
                _tell(finding=found and found.signature, detail=found and found.detail)
        self._target.close()


def _tell(**values: object) -> None:
    # Nothing of the code under test may come between: standard output is only for this.
    os.write(_answers, (json.dumps(values) + "\n").encode())


_answers = 1


def main() -> int:
    """Entry point: `python -m vgpu_stub.fuzz.child TARGET --seed N --progress FD`."""
    global _answers
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--progress", type=int, required=True)
    parser.add_argument("--corpus", type=Path)
    arguments = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    faulthandler.enable(sys.stderr)
    _answers = os.dup(1)
    os.dup2(2, 1)
    progress = mmap.mmap(arguments.progress, mmap.PAGESIZE)
    Child(arguments.target, arguments.seed, progress, arguments.corpus).serve()
    return 0


if __name__ == "__main__":
    sys.exit(main())
