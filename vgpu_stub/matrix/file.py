"""Reads a matrix file: TOML with axes, what their values mean, and which cells to leave out or add.

Everything is checked when the file is read, before anything starts; a mistake is refused with its
place and what would be right.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from vgpu_qemu.image import VARIANTS
from vgpu_qemu.kernels import SUPPORTED
from vgpu_stub.faults import FaultRuleError, Rule, load_rules

EXECUTORS: Final = ("software", "cuda")
PROFILES: Final = ("sm_61", "sm_75", "sm_80", "sm_90")
NO_FAULTS: Final = "no-faults"
PLAIN: Final = "plain"
DEFAULT_IMAGE: Final = "cuda"
SMOKE: Final = "smoke"

#: Axes of the file and the key that names one value of each in `include` and `exclude`.
AXES: Final = {
    "kernels": "kernel",
    "flavours": "flavour",
    "executors": "executor",
    "profiles": "profile",
    "faults": "faults",
    "images": "image",
    "commands": "command",
}
#: Axes whose values a file may define.
_TABLES: Final = ("kernels", "flavours", "faults", "commands")
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")

#: The strictest that kernels can do without being built for it; what a kernel lacks it ignores.
DEBUG_ARGUMENTS: Final = (
    "slub_debug=FZPU",
    "page_poison=1",
    "init_on_free=1",
    "kfence.sample_interval=100",
    "kmemleak=on",
)


class MatrixError(ValueError):
    """A matrix file, or what was asked of it, makes no sense; the text says what would be right."""


@dataclass(frozen=True)
class KernelChoice:
    """A kernel of the matrix.

    Attributes:
        name: As cells name it.
        source: What `vgpu_qemu.kernels.find_kernel` takes: a series or a path.
    """

    name: str
    source: str


@dataclass(frozen=True)
class Flavour:
    """A set of kernel arguments."""

    name: str
    arguments: tuple[str, ...] = ()


@dataclass(frozen=True)
class FaultSet:
    """Faults that happen while a cell runs.

    Attributes:
        name: As cells name it.
        rules: What happens, and when.
        expected: Regular expressions of kernel reports that these faults may cause.
    """

    name: str
    rules: tuple[Rule, ...] = ()
    expected: tuple[str, ...] = ()


@dataclass(frozen=True)
class Command:
    """What a cell runs; one of `smoke`, `run` and `pytest` is set.

    Attributes:
        name: As cells name it.
        smoke: Which smoke tests, as `pytest -k` has it; "" for all.
        run: A line for `sh -c`, or a program with its arguments, in the guest.
        pytest: Files and options of pytest on this machine, with this package's plugin.
        status: The exit status that means success.
        timeout: Seconds for the command; None for the matrix's.
        expected: Regular expressions of kernel reports that it may cause.
    """

    name: str
    smoke: str | None = None
    run: str | tuple[str, ...] | None = None
    pytest: tuple[str, ...] | None = None
    status: int = 0
    timeout: float | None = None
    expected: tuple[str, ...] = ()


@dataclass(frozen=True)
class Settings:
    """What holds for every cell.

    Attributes:
        accel: `auto`, `kvm` or `tcg`.
        cpus: Virtual processors of each guest.
        memory: Memory of each guest in MiB.
        gpu_memory: Device memory of each software GPU in MiB.
        timeout: Seconds for a cell's command, booting apart.
        boot_timeout: Seconds until a guest must be ready.
        saved: Start guests from a saved state instead of booting them; it is saved at first use.
        expected: Regular expressions of kernel reports that fail no cell.
    """

    accel: str = "auto"
    cpus: int = 2
    memory: int = 1024
    gpu_memory: int = 512
    timeout: float = 600.0
    boot_timeout: float = 120.0
    saved: bool = False
    expected: tuple[str, ...] = ()


@dataclass(frozen=True)
class MatrixFile:
    """A matrix as its file tells it."""

    path: Path
    settings: Settings
    axes: Mapping[str, tuple[str, ...]]
    kernels: Mapping[str, KernelChoice]
    flavours: Mapping[str, Flavour]
    faults: Mapping[str, FaultSet]
    commands: Mapping[str, Command]
    include: tuple[Mapping[str, tuple[str, ...]], ...] = ()
    exclude: tuple[Mapping[str, tuple[str, ...]], ...] = field(default=())


def load_matrix(path: Path) -> MatrixFile:
    """Read a matrix file.

    Raises:
        MatrixError: It cannot be read or makes no sense.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise MatrixError(f"{path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise MatrixError(f"{path}: {error}") from error
    return _Reader(path, data).matrix()


class _Reader:
    """Turns the tables of one file into what they mean."""

    def __init__(self, path: Path, data: Mapping[str, Any]) -> None:
        self._path = path
        self._data = data
        self._check_keys("the file", data, ("matrix", "axes", *_TABLES, "include", "exclude"))

    def matrix(self) -> MatrixFile:
        kernels = {name: KernelChoice(name, name) for name in SUPPORTED}
        kernels |= self._tables("kernels", self._kernel)
        flavours = {PLAIN: Flavour(PLAIN), "debug": Flavour("debug", DEBUG_ARGUMENTS)}
        flavours |= self._tables("flavours", self._flavour)
        faults = {NO_FAULTS: FaultSet(NO_FAULTS)} | self._tables("faults", self._fault_set)
        commands = {SMOKE: Command(SMOKE, smoke="")} | self._tables("commands", self._command)
        known: dict[str, Iterable[str]] = {
            "kernels": kernels,
            "flavours": flavours,
            "executors": EXECUTORS,
            "profiles": PROFILES,
            "faults": faults,
            "images": VARIANTS,
            "commands": commands,
        }
        return MatrixFile(
            path=self._path,
            settings=self._settings(),
            axes=self._axes(known),
            kernels=kernels,
            flavours=flavours,
            faults=faults,
            commands=commands,
            include=tuple(self._choices("include", known)),
            exclude=tuple(self._choices("exclude", None)),
        )

    def _settings(self) -> Settings:
        table = self._table(self._data.get("matrix", {}), "[matrix]")
        defaults = Settings()
        self._check_keys("[matrix]", table, tuple(vars(defaults)))
        values: dict[str, Any] = {}
        for name, default in vars(defaults).items():
            if name not in table:
                continue
            value = table[name]
            if name == "expected":
                values[name] = self._expressions("[matrix]", value)
            elif isinstance(default, bool):
                if not isinstance(value, bool):
                    raise self._error(f"[matrix] {name}", f"is true or false, not {value!r}")
                values[name] = value
            elif isinstance(default, str):
                if value not in ("auto", "kvm", "tcg"):
                    raise self._error("[matrix] accel", f"{value!r}: use auto, kvm or tcg")
                values[name] = value
            else:
                values[name] = type(default)(self._number(f"[matrix] {name}", value))
        return Settings(**values)

    def _axes(self, known: Mapping[str, Iterable[str]]) -> dict[str, tuple[str, ...]]:
        table = self._table(self._data.get("axes", {}), "[axes]")
        self._check_keys("[axes]", table, tuple(AXES))
        defaults = {
            "kernels": ("6.12",),
            "flavours": (PLAIN,),
            "executors": ("software",),
            "profiles": ("sm_61",),
            "faults": (NO_FAULTS,),
            "images": (DEFAULT_IMAGE,),
            "commands": (SMOKE,),
        }
        axes = {}
        for axis, default in defaults.items():
            values = self._strings(f"[axes] {axis}", table.get(axis, default))
            if not values:
                raise self._error(f"[axes] {axis}", "is empty: an axis has at least one value")
            for value in values:
                self._check_value(f"[axes] {axis}", value, known[axis])
            axes[axis] = tuple(dict.fromkeys(values))
        return axes

    def _choices(
        self, name: str, known: Mapping[str, Iterable[str]] | None
    ) -> Iterable[dict[str, tuple[str, ...]]]:
        """Tables of `include` (values must be known) or `exclude` (patterns)."""
        axes = {key: axis for axis, key in AXES.items()}
        for number, table in enumerate(self._data.get(name, []), 1):
            where = f"[[{name}]] {number}"
            self._check_keys(where, self._table(table, where), tuple(axes))
            chosen = {}
            for key, value in table.items():
                values = self._strings(f"{where} {key}", value)
                for one in values if known else ():
                    self._check_value(f"{where} {key}", one, known[axes[key]] if known else ())
                chosen[axes[key]] = values
            if not chosen:
                raise self._error(where, f"names no axis: give one of {', '.join(axes)}")
            yield chosen

    def _kernel(self, name: str, where: str, table: Mapping[str, Any]) -> KernelChoice:
        self._check_keys(where, table, ("path",))
        path = table.get("path")
        if not isinstance(path, str):
            raise self._error(where, 'wants path = "bzImage or a kernel tree"')
        return KernelChoice(name, str((self._path.parent / Path(path).expanduser()).absolute()))

    def _flavour(self, name: str, where: str, table: Mapping[str, Any]) -> Flavour:
        self._check_keys(where, table, ("arguments",))
        return Flavour(name, self._strings(f"{where} arguments", table.get("arguments", ())))

    def _fault_set(self, name: str, where: str, table: Mapping[str, Any]) -> FaultSet:
        self._check_keys(where, table, ("file", "rules", "expected"))
        rules: list[Rule] = []
        try:
            for file in self._strings(f"{where} file", table.get("file", ())):
                rules += load_rules(self._path.parent / file)
            for text in self._strings(f"{where} rules", table.get("rules", ())):
                rules.append(Rule.parse(text))
        except FaultRuleError as error:
            raise self._error(where, str(error)) from error
        except OSError as error:
            raise self._error(where, f"{error.filename}: {error.strerror}") from error
        if not rules:
            raise self._error(where, "has no faults: give rules = [...] or file = ...")
        return FaultSet(name, tuple(rules), self._expressions(where, table.get("expected", ())))

    def _command(self, name: str, where: str, table: Mapping[str, Any]) -> Command:
        kinds = ("smoke", "run", "pytest")
        self._check_keys(where, table, (*kinds, "status", "timeout", "expected"))
        if sum(kind in table for kind in kinds) != 1:
            raise self._error(where, "wants one of smoke, run and pytest")
        run = table.get("run")
        if isinstance(run, list):
            run = self._strings(f"{where} run", run)
        elif not isinstance(run, str | None):
            raise self._error(f"{where} run", "is a line for a shell, or a list of words")
        smoke = table.get("smoke")
        if not isinstance(smoke, str | None):
            raise self._error(f"{where} smoke", 'is an expression of pytest -k, or ""')
        pytest = self._strings(f"{where} pytest", table["pytest"]) if "pytest" in table else None
        timeout = table.get("timeout")
        return Command(
            name,
            smoke=smoke,
            run=run,
            pytest=pytest,
            status=int(self._number(f"{where} status", table.get("status", 0), least=0)),
            timeout=None if timeout is None else self._number(f"{where} timeout", timeout),
            expected=self._expressions(where, table.get("expected", ())),
        )

    def _tables(self, axis: str, read: Any) -> dict[str, Any]:
        """The tables that say what values of an axis mean."""
        tables = self._table(self._data.get(axis, {}), f"[{axis}]")
        made = {}
        for name, table in tables.items():
            where = f"[{axis}.{name}]"
            if not _NAME.fullmatch(name):
                raise self._error(where, "a name has letters, digits, '.', '_' and '-'")
            made[name] = read(name, where, self._table(table, where))
        return made

    def _table(self, value: Any, where: str) -> Mapping[str, Any]:
        if not isinstance(value, dict):
            raise self._error(where, f"is a table, not {value!r}")
        return value

    def _strings(self, where: str, value: Any) -> tuple[str, ...]:
        values = (value,) if isinstance(value, str) else value
        if not isinstance(values, list | tuple) or not all(isinstance(one, str) for one in values):
            raise self._error(where, f"is a string or a list of strings, not {value!r}")
        return tuple(values)

    def _expressions(self, where: str, value: Any) -> tuple[str, ...]:
        expressions = self._strings(f"{where} expected", value)
        for expression in expressions:
            try:
                re.compile(expression)
            except re.error as error:
                raise self._error(f"{where} expected", f"{expression!r}: {error}") from error
        return expressions

    def _number(self, where: str, value: Any, least: float = 1) -> float:
        if not isinstance(value, int | float) or isinstance(value, bool) or value < least:
            raise self._error(where, f"is a number of at least {least:g}, not {value!r}")
        return float(value)

    def _check_keys(self, where: str, table: Mapping[str, Any], known: Sequence[str]) -> None:
        for key in table:
            self._check_value(where, key, known)

    def _check_value(self, where: str, value: str, known: Iterable[str]) -> None:
        names = list(known)
        if value in names:
            return
        near = difflib.get_close_matches(value, names, 1)
        meant = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(names)}"
        raise self._error(where, f"there is no {value!r}; {meant}")

    def _error(self, where: str, problem: str) -> MatrixError:
        return MatrixError(f"{self._path}: {where}: {problem}")
