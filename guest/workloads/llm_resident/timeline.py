"""Memory and use of the device over the time of a run, and a plot of both as SVG."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

_INTERVAL_S: Final = 0.02
_WINDOWS: Final = 200


@dataclass(frozen=True)
class Sample:
    """One look: seconds since the start, phase, bytes in use and held by the pool."""

    at_s: float
    phase: str
    used: int
    held: int


class Sampler:
    """Looks now and then, in a thread of its own."""

    def __init__(self, look: Callable[[], tuple[str, int, int]]) -> None:
        """Prepare; `look` returns phase, bytes in use, and bytes held."""
        self.samples: list[Sample] = []
        self.start = time.perf_counter()
        self._state = look
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self.look()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
        self.look()

    def _run(self) -> None:
        while not self._stop.wait(_INTERVAL_S):
            self.look()

    def look(self) -> None:
        """Look now: where a phase begins."""
        self.samples.append(Sample(time.perf_counter() - self.start, *self._state()))


def shares(busy: Sequence[tuple[float, float]], end_s: float) -> list[float]:
    """Part of each of equal windows of the run in which the device worked.

    Args:
        busy: Starts and ends of its work, in seconds since the start of the run.
        end_s: Length of the run.
    """
    width = end_s / _WINDOWS
    windows = [0.0] * _WINDOWS
    for start, end in busy:
        first = min(int(start / width), _WINDOWS - 1)
        for window in range(first, min(int(end / width) + 1, _WINDOWS)):
            left, right = window * width, (window + 1) * width
            windows[window] += max(0.0, min(end, right) - max(start, left))
    return [min(window / width, 1.0) for window in windows]


def write_plot(
    path: Path, samples: Sequence[Sample], busy: Sequence[tuple[float, float]], title: str
) -> None:
    """Write the plot: memory above, the share of time in which the device worked below.

    Raises:
        OSError: The file cannot be written.
    """
    end_s = samples[-1].at_s
    most = max(max(sample.held for sample in samples), 1)
    memory = [(sample.at_s / end_s, sample.used / most) for sample in samples]
    held = [(sample.at_s / end_s, sample.held / most) for sample in samples]
    use = [((i + 0.5) / _WINDOWS, share) for i, share in enumerate(shares(busy, end_s))]
    changes = [
        sample
        for earlier, sample in zip((None, *samples), samples, strict=False)
        if earlier is None or earlier.phase != sample.phase
    ]
    marks = "".join(
        f'<line x1="{60 + 700 * s.at_s / end_s:.1f}" x2="{60 + 700 * s.at_s / end_s:.1f}" y1="40"'
        f' y2="400" class="mark"/><text x="{64 + 700 * s.at_s / end_s:.1f}" y="52">{s.phase}</text>'
        for s in changes
    )
    path.write_text(
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 800 440" font-family="sans-serif"'
        ' font-size="12"><style>text{fill:#555}.frame{fill:none;stroke:#bbb}.mark{stroke:#ccc;'
        "stroke-dasharray:3 3}polyline{fill:none;stroke-width:1.5}</style>"
        f'<rect width="800" height="440" fill="#fff"/><text x="60" y="24" font-size="15">{title}'
        f'</text>{marks}<rect x="60" y="60" width="700" height="150" class="frame"/>'
        f'<rect x="60" y="250" width="700" height="150" class="frame"/>'
        f"{_line(held, 60, '#bbb')}{_line(memory, 60, '#2563eb')}{_line(use, 250, '#16a34a')}"
        f'<text x="60" y="224">device memory of the pool: in use (blue) and held, up to'
        f" {most / 1e6:.0f} MB</text>"
        '<text x="60" y="414">part of the time in which the device worked, 0 to 100 %</text>'
        f'<text x="760" y="430" text-anchor="end">{end_s:.2f} s</text></svg>\n'
    )


def _line(points: Sequence[tuple[float, float]], top: int, colour: str) -> str:
    places = " ".join(f"{60 + 700 * x:.1f},{top + 150 - 145 * y:.1f}" for x, y in points)
    return f'<polyline points="{places}" stroke="{colour}"/>'
