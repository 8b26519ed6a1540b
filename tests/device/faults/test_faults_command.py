"""`vgpu-stub faults` as users call it, against a server of the test's own."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from click.testing import Result
from typer.testing import CliRunner

from vgpu_host.control import ControlError
from vgpu_stub.abi.generated import Opcode
from vgpu_stub.cli.main import typer_app
from vgpu_stub.driver import GuestChannel
from vgpu_stub.faults import KINDS
from vgpu_stub.harness.build import GUEST, workloads
from vgpu_stub.harness.control import FaultControl
from vgpu_stub.harness.device_server import DeviceServer

pytestmark = pytest.mark.device

PROGRAMS = GUEST / "workloads/programs.py"
COMMAND = "from vgpu_stub.cli.main import app; app()"


def run(*arguments: str) -> Result:
    """`vgpu-stub faults`, in this process: starting a Python is most of what it takes."""
    return CliRunner().invoke(typer_app, ["faults", *arguments])


def run_exec(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", COMMAND, "exec", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_kinds_are_listed_for_machines() -> None:
    kinds = json.loads(run("kinds", "--json").stdout)
    assert [kind["name"] for kind in kinds] == list(KINDS)
    assert all(kind["guest_sees"] and kind["point"] for kind in kinds)


def test_rules_are_added_listed_and_cleared(
    server: DeviceServer, channel: GuestChannel, faults: FaultControl
) -> None:
    name = ("--server", server.folder.name)
    added = run("add", *name, "command-error:error=2,opcode=NOP,times=0")
    assert added.exit_code == 0, added.output
    number, text = added.stdout.split(maxsplit=1)
    assert text.strip() == "command-error:opcode=NOP,times=0,error=2"
    assert channel.wait(channel.submit(Opcode.NOP)).status == 2
    assert f"{number} {text.strip()}: seen 1, fired 1" in run("list", *name).stdout
    assert run("clear", *name, number).exit_code == 0
    assert faults.list() == []
    gone = run("clear", *name, number)
    assert isinstance(gone.exception, ControlError)
    assert str(gone.exception) == f"there is no fault rule {number}; active are none"


def test_wrong_rule_or_server_is_refused(server: DeviceServer) -> None:
    wrong = run("add", "--server", server.folder.name, "completion-lots")
    assert wrong.exit_code == 2
    assert "completion-lost" in wrong.stderr
    nobody = run("list", "--server", "nobody")
    assert nobody.exit_code == 1
    assert server.folder.name in nobody.stderr


def test_program_is_run_with_faults_and_told_what_became_of_them() -> None:
    workloads()
    program = ("--", sys.executable, str(PROGRAMS), "vector_add")
    options = ("--executor", "software", "--gpu-memory", "256M")
    failed = run_exec(*options, "--fault", "out-of-memory", *program)
    assert failed.returncode != 0
    assert "CUDA_ERROR_OUT_OF_MEMORY" in failed.stdout + failed.stderr
    assert "vgpu-stub: fault 1 out-of-memory: seen 1, fired 1\n" in failed.stderr


def test_wrong_rule_on_the_command_line_runs_nothing() -> None:
    refused = run_exec("--fault", "out-of-memori", "--", "echo", "ran")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "out-of-memory" in refused.stderr
