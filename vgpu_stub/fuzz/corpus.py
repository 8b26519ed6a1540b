"""Sequences worth keeping: those in which something followed something for the first time.

Instead of the lines that were reached, which costs far more than a sequence itself, the ends of
operations are looked at: "a REGION_WRITE refused with 22 after a DMA_UNMAP that went well" is new
once. Files are named by their content, so that many processes and machines can share a folder.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Final

from vgpu_stub.fuzz.operations import Operation, from_json, to_json

#: Sequences that a process keeps; those that come later have less and less that is new.
MOST: Final = 1000


class Corpus:
    """The kept sequences of one target, in a folder."""

    def __init__(self, folder: Path, kinds: Mapping[str, type[Operation]]) -> None:
        """Read what is there; files that are no sequences of the target are left alone."""
        self._folder = folder
        self._folder.mkdir(parents=True, exist_ok=True)
        self._seen: set[tuple[str, str]] = set()
        self._kept: list[list[Operation]] = []
        for path in sorted(folder.glob("*.json")):
            try:
                self._kept.append(from_json(path.read_text(), kinds))
            except ValueError:
                continue

    def __len__(self) -> int:
        return len(self._kept)

    def choose(self, rng: random.Random) -> list[Operation]:
        """One of the kept sequences; there must be some."""
        return rng.choice(self._kept)

    def consider(self, operations: Sequence[Operation], ends: Sequence[str]) -> bool:
        """Keep a sequence that had a new succession of ends; returns whether it had."""
        new = {*pairwise(ends)} - self._seen
        if not new or len(self._kept) >= MOST:
            return False
        self._seen |= new
        self._kept.append(list(operations))
        text = to_json(operations)
        name = hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
        path = self._folder / f"{name}.json"
        if not path.exists():
            path.write_text(text)
        return True
