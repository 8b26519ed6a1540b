"""The commands by name, each imported when it is wanted.

What one command needs (a compiler, numpy, a screen) would otherwise be imported at the start of
every other one, and most of a second is long for `vgpu-stub exec`.
"""

from __future__ import annotations

from collections import UserDict
from importlib import import_module
from typing import Any, Final

import typer
from typer.core import TyperGroup

_PROGRAMS: Final = "Run programs on the device"
_TESTS: Final = "Test drivers and devices"
_LOOKS: Final = "See what happens"

#: Panel of the help, and the function or `typer.Typer` in the module of the command's name.
_COMMANDS: Final = {
    "vm": (_PROGRAMS, "vm_command"),
    "exec": (_PROGRAMS, "exec_command"),
    "explain": (_PROGRAMS, "explain_command"),
    "model": (_PROGRAMS, "model_command"),
    "smoke": (_TESTS, "smoke_command"),
    "matrix": (_TESTS, "matrix_command"),
    "faults": (_TESTS, "faults_app"),
    "villain": (_TESTS, "villain_app"),
    "fuzz": (_TESTS, "fuzz_command"),
    "build-module": (_TESTS, "build_module_command"),
    "monitor": (_LOOKS, "monitor_command"),
    "metrics": (_LOOKS, "metrics_command"),
    "trace": (_LOOKS, "trace_command"),
    "record": (_LOOKS, "record_command"),
    "replay": (_LOOKS, "replay_command"),
    "ptx": (_LOOKS, "ptx_app"),
    "doctor": (_LOOKS, "doctor_command"),
}


class _Imported(UserDict[str, Any]):
    """Commands by name; taking one imports its module."""

    def __init__(self, context_settings: dict[str, Any]) -> None:
        super().__init__(_COMMANDS)
        self._context_settings = context_settings

    def __getitem__(self, name: str) -> Any:
        panel, attribute = self.data[name]
        module = import_module(f"vgpu_stub.cli.{name.replace('-', '_')}_command")
        found = getattr(module, attribute)
        holder = typer.Typer(add_completion=False, context_settings=self._context_settings)
        if isinstance(found, typer.Typer):
            holder.add_typer(found, name=name, rich_help_panel=panel)
            return typer.main.get_group(holder).commands[name]
        holder.command(name, rich_help_panel=panel)(found)
        return typer.main.get_command(holder)


class Commands(TyperGroup):
    """The group of all commands."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = _Imported(dict(self.context_settings))
