"""`vgpu-stub record`: records a device server that runs already."""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path
from typing import Annotated

import typer

from vgpu_host import runtime
from vgpu_stub.harness.control import Control, ControlError
from vgpu_stub.monitor.text import format_bytes


def record_command(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", dir_okay=False, help="Where the recording goes.")
    ],
    server: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The device server's folder; needed if several run."),
    ] = None,
    seconds: Annotated[
        float | None, typer.Option(min=0.1, help="Stop after so long, instead of by Ctrl-C.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was kept as JSON.")] = False,
) -> None:
    """Record what guests do to a running device, until Ctrl-C.

    Channels that are in use by then are kept, but cannot be played: what they had is unknown.

    Examples:

        vgpu-stub record load.vgpurec --seconds 10

        vgpu-stub replay load.vgpurec --list
    """
    control = Control(_folder(server))
    try:
        control.call("recording.start", path=str(file.absolute()))
        if not as_json:
            print(f"recording to {file}; Ctrl-C ends it", file=sys.stderr)
        try:
            threading.Event().wait(seconds)
        except KeyboardInterrupt:
            pass
        finally:
            kept = control.call("recording.stop")
    except ControlError as error:
        print(f"vgpu-stub: {error}", file=sys.stderr)
        raise typer.Exit(1) from error
    if as_json:
        print(json.dumps(kept))
    else:
        print(f"{file}: {kept['channels']} channels, {format_bytes(int(kept['file_bytes']))}")
    raise typer.Exit(1 if kept["failure"] else 0)


def _folder(name: str | None) -> Path:
    """The folder of the server of that name, or of the only one.

    Raises:
        typer.BadParameter: There is none, or more than one.
    """
    folders = [folder for folder in runtime.running_servers() if name in (None, folder.name)]
    if len(folders) == 1:
        return folders[0]
    if folders:
        names = ", ".join(folder.name for folder in folders)
        raise typer.BadParameter(f"several device servers run: {names}; choose one with --server")
    raise typer.BadParameter(f"no device server {name!r} runs" if name else "no device server runs")
