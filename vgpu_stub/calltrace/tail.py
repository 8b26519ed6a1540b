"""Follows the journals of a folder as they grow.

It imports nothing of ours: a guest runs this very file (`python3 - FOLDER`) and prints what it
reads, until there is a file named END in the folder.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

END = "END"
INTERVAL_S = 0.05


class JournalTail:
    """New lines of the journals of a folder.

    Args:
        folder: Where each process has its file, named after its process id.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._places: dict[Path, int] = {}

    def read(self) -> list[tuple[int, bytes]]:
        """Whole lines since the last time, with the process id; by process, in its order."""
        found = []
        for path in sorted(self._folder.glob("*.jsonl")):
            place = self._places.get(path, 0)
            if path.stat().st_size == place:
                continue
            with path.open("rb") as file:
                file.seek(place)
                data = file.read()
            whole = data.rfind(b"\n") + 1
            self._places[path] = place + whole
            found += [(int(path.stem), line) for line in data[:whole].splitlines()]
        return found


def _print_journals(folder: Path) -> None:
    """Print each line behind its process id, and the clock behind process id 0."""
    tail = JournalTail(folder)
    ended = False
    while not ended:
        ended = (folder / END).exists()
        lines = [*tail.read(), (0, b"%d" % time.monotonic_ns())]
        sys.stdout.buffer.write(b"".join(b"%d %s\n" % line for line in lines))
        sys.stdout.buffer.flush()
        if not ended:
            time.sleep(INTERVAL_S)


if __name__ == "__main__":
    _print_journals(Path(sys.argv[1]))
