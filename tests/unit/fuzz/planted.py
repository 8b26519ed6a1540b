"""A target with bugs that somebody planted: a counter that breaks in three ways."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from vgpu_stub.fuzz.operations import Finding, Operation, kinds_of


@dataclass(frozen=True, slots=True)
class Add(Operation):
    amount: int
    label: bytes = b""


@dataclass(frozen=True, slots=True)
class Double(Operation):
    pass


class Planted:
    name: ClassVar[str] = "planted"
    summary: ClassVar[str] = "a counter"
    kinds: ClassVar[dict[str, type[Operation]]] = kinds_of(Add, Double)

    def start(self) -> None:
        pass

    def close(self) -> None:
        pass

    def generate(self, rng: random.Random) -> list[Operation]:
        return [
            Double() if rng.random() < 0.3 else Add(rng.randrange(1000), rng.randbytes(5))
            for _ in range(rng.randrange(1, 30))
        ]

    def run(self, operations: Sequence[Operation]) -> list[str]:
        total = 0
        for operation in operations:
            if isinstance(operation, Add):
                total += operation.amount
            else:
                self.double(total)
                total *= 2
        return ["added"] * len(operations)

    def double(self, total: int) -> None:
        """Nothing is wrong here."""


class Raising(Planted):
    def double(self, total: int) -> None:
        if total >= 700:
            raise Finding("the counter overflowed", f"at {total}")


class Dying(Planted):
    def double(self, total: int) -> None:
        if total >= 700:
            os.kill(os.getpid(), signal.SIGSEGV)


class Hanging(Planted):
    def double(self, total: int) -> None:
        if total >= 700:
            time.sleep(60)
