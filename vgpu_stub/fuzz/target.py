"""What a target of the fuzzer is, and which there are.

A target owns a world: the code under test with everything around it. Sequences run in that world
one after the other, and each must leave it as it found it.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import ClassVar, Protocol

from vgpu_stub.fuzz.operations import Operation


class Target(Protocol):
    """One kind of input and the code that takes it."""

    #: As on the command line.
    name: ClassVar[str]
    #: One line for people: what is fuzzed.
    summary: ClassVar[str]
    #: The operations of its sequences, by class name.
    kinds: ClassVar[Mapping[str, type[Operation]]]

    def start(self) -> None:
        """Make the world."""
        ...

    def close(self) -> None:
        """End the world."""
        ...

    def generate(self, rng: random.Random) -> list[Operation]:
        """Make a sequence; the same for the same state of `rng`."""
        ...

    def run(self, operations: Sequence[Operation]) -> list[str]:
        """Carry a sequence out and check what must hold.

        Returns:
            How each operation ended, in a few words without numbers that vary: sequences with new
            successions of ends are kept in the corpus.

        Raises:
            Finding: Something that must never happen, happened.
        """
        ...
