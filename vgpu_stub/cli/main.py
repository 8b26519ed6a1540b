"""The `vgpu-stub` command: one function for each subcommand, errors turned into exit statuses."""

from __future__ import annotations

import sys
from importlib.metadata import version
from typing import Annotated

import typer

from vgpu_host.control import ControlError
from vgpu_host.ptx_files import PtxFileError
from vgpu_qemu.errors import LauncherError, VmTimeoutError
from vgpu_stub.cli.commands import Commands
from vgpu_stub.faults import FaultRuleError
from vgpu_stub.harness.build import BuildError
from vgpu_stub.harness.device_server import DeviceServerError
from vgpu_stub.matrix.file import MatrixError

typer_app = typer.Typer(
    name="vgpu-stub",
    cls=Commands,
    help="A virtual PCI GPU that people can see into: run CUDA programs on it, in a VM or without,"
    " test drivers against it, and watch its rings.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"vgpu-stub {version('vgpu-stub')}")
        raise typer.Exit


@typer_app.callback()
def _options(
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """A virtual PCI GPU that people can see into."""


def app() -> None:
    """Entry point; a problem that has a name becomes one message and exit status 1, or 124."""
    try:
        typer_app()
    except VmTimeoutError as error:
        print(f"vgpu-stub: {error}", file=sys.stderr)
        sys.exit(124)
    except (
        BuildError,
        ControlError,
        DeviceServerError,
        FaultRuleError,
        LauncherError,
        MatrixError,
        PtxFileError,
    ) as error:
        print(f"vgpu-stub: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("vgpu-stub: interrupted", file=sys.stderr)
        sys.exit(130)
