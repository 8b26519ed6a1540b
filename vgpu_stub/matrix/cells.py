"""Cells of a matrix: the product of its axes, each with a name that stays the same.

A name has the kernel, executor, profile, faults and command: "6.12/software/sm_61/no-faults/smoke".
A flavour other than plain follows the kernel ("6.12+debug"), an image other than the usual one the
command ("smoke@llm"). So a name does not change when an axis gains values.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import product
from typing import Final

from vgpu_stub.matrix.file import (
    AXES,
    DEFAULT_IMAGE,
    PLAIN,
    Command,
    FaultSet,
    Flavour,
    KernelChoice,
    MatrixError,
    MatrixFile,
    Settings,
)

#: What stands for the profile of a physical GPU, which is what it is.
PHYSICAL: Final = "physical"


@dataclass(frozen=True)
class Cell:
    """One run: a command in one surrounding."""

    kernel: KernelChoice
    flavour: Flavour
    executor: str
    profile: str
    faults: FaultSet
    image: str
    command: Command
    settings: Settings

    @property
    def name(self) -> str:
        """The name, as people and `--cell` use it."""
        return "/".join((self.row, self.column))

    @property
    def row(self) -> str:
        """The part of the name before the command: where it runs."""
        kernel = self.kernel.name
        if self.flavour.name != PLAIN:
            kernel += f"+{self.flavour.name}"
        return "/".join((kernel, self.executor, self.profile, self.faults.name))

    @property
    def column(self) -> str:
        """The command, with the image where it is not the usual one."""
        image = "" if self.image == DEFAULT_IMAGE else f"@{self.image}"
        return self.command.name + image

    @property
    def timeout(self) -> float:
        """Seconds for the command."""
        return self.command.timeout or self.settings.timeout

    @property
    def expected(self) -> tuple[str, ...]:
        """Regular expressions of kernel reports that do not fail it."""
        return (*self.settings.expected, *self.command.expected, *self.faults.expected)


def make_cells(matrix: MatrixFile) -> list[Cell]:
    """All cells of a matrix, in the order of its axes, then those that are included by hand.

    Raises:
        MatrixError: Nothing is left.
    """
    cells: dict[str, Cell] = {}
    for values in product(*(matrix.axes[axis] for axis in AXES)):
        chosen = dict(zip(AXES, values, strict=True))
        if not any(_matches(chosen, patterns) for patterns in matrix.exclude):
            cell = _cell(matrix, chosen)
            cells.setdefault(cell.name, cell)
    for table in matrix.include:
        first = {axis: values[:1] for axis, values in matrix.axes.items()}
        axes = first | dict(table)
        for values in product(*(axes[axis] for axis in AXES)):
            cell = _cell(matrix, dict(zip(AXES, values, strict=True)))
            cells.setdefault(cell.name, cell)
    if not cells:
        raise MatrixError(f"{matrix.path}: every cell is excluded")
    return list(cells.values())


def select(cells: Sequence[Cell], patterns: Iterable[str]) -> list[Cell]:
    """Cells whose name one of the patterns matches; `*` matches any text, slashes too.

    Raises:
        MatrixError: A pattern matches no cell.
    """
    patterns = list(patterns)
    for pattern in patterns:
        if not any(fnmatchcase(cell.name, pattern) for cell in cells):
            raise MatrixError(f"no cell matches {pattern!r}; --list shows their names")
    return [cell for cell in cells if any(fnmatchcase(cell.name, one) for one in patterns)]


def _matches(chosen: Mapping[str, str], patterns: Mapping[str, tuple[str, ...]]) -> bool:
    return all(
        any(fnmatchcase(chosen[axis], pattern) for pattern in values)
        for axis, values in patterns.items()
    )


def _cell(matrix: MatrixFile, chosen: Mapping[str, str]) -> Cell:
    executor = chosen["executors"]
    return Cell(
        kernel=matrix.kernels[chosen["kernels"]],
        flavour=matrix.flavours[chosen["flavours"]],
        executor=executor,
        profile=PHYSICAL if executor == "cuda" else chosen["profiles"],
        faults=matrix.faults[chosen["faults"]],
        image=chosen["images"],
        command=matrix.commands[chosen["commands"]],
        settings=matrix.settings,
    )
