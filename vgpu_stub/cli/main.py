"""The `vgpu-stub` command: one function for each subcommand, errors turned into exit statuses."""

from __future__ import annotations

import sys
from importlib.metadata import version
from typing import Annotated

import typer

from vgpu_host.control import ControlError
from vgpu_host.ptx_files import PtxFileError
from vgpu_qemu.errors import LauncherError, VmTimeoutError
from vgpu_stub.cli.build_module_command import build_module_command
from vgpu_stub.cli.doctor_command import doctor_command
from vgpu_stub.cli.exec_command import exec_command
from vgpu_stub.cli.explain_command import explain_command
from vgpu_stub.cli.faults_command import faults_app
from vgpu_stub.cli.fuzz_command import fuzz_command
from vgpu_stub.cli.matrix_command import matrix_command
from vgpu_stub.cli.metrics_command import metrics_command
from vgpu_stub.cli.model_command import model_command
from vgpu_stub.cli.monitor_command import monitor_command
from vgpu_stub.cli.ptx_command import ptx_app
from vgpu_stub.cli.record_command import record_command
from vgpu_stub.cli.replay_command import replay_command
from vgpu_stub.cli.smoke_command import smoke_command
from vgpu_stub.cli.trace_command import trace_command
from vgpu_stub.cli.villain_command import villain_app
from vgpu_stub.cli.vm_command import vm_command
from vgpu_stub.faults import FaultRuleError
from vgpu_stub.harness.build import BuildError
from vgpu_stub.harness.device_server import DeviceServerError
from vgpu_stub.matrix.file import MatrixError

typer_app = typer.Typer(
    name="vgpu-stub",
    help="A virtual PCI GPU that people can see into: run CUDA programs on it, in a VM or without,"
    " test drivers against it, and watch its rings.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
_PROGRAMS = "Run programs on the device"
typer_app.command("vm", rich_help_panel=_PROGRAMS)(vm_command)
typer_app.command("exec", rich_help_panel=_PROGRAMS)(exec_command)
typer_app.command("explain", rich_help_panel=_PROGRAMS)(explain_command)
typer_app.command("model", rich_help_panel=_PROGRAMS)(model_command)
_TESTS = "Test drivers and devices"
typer_app.command("smoke", rich_help_panel=_TESTS)(smoke_command)
typer_app.command("matrix", rich_help_panel=_TESTS)(matrix_command)
typer_app.add_typer(faults_app, name="faults", rich_help_panel=_TESTS)
typer_app.add_typer(villain_app, rich_help_panel=_TESTS)
typer_app.command("fuzz", rich_help_panel=_TESTS)(fuzz_command)
typer_app.command("build-module", rich_help_panel=_TESTS)(build_module_command)
_LOOKS = "See what happens"
typer_app.command("monitor", rich_help_panel=_LOOKS)(monitor_command)
typer_app.command("metrics", rich_help_panel=_LOOKS)(metrics_command)
typer_app.command("trace", rich_help_panel=_LOOKS)(trace_command)
typer_app.command("record", rich_help_panel=_LOOKS)(record_command)
typer_app.command("replay", rich_help_panel=_LOOKS)(replay_command)
typer_app.add_typer(ptx_app, rich_help_panel=_LOOKS)
typer_app.command("doctor", rich_help_panel=_LOOKS)(doctor_command)


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
