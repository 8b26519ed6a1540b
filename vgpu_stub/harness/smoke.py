"""The smoke tests of `guest/smoke`: how they are run in a guest, and which there are.

They run as root with the guest's own pytest, whose plugin `ktap` reports in KTAP on standard
output; `tests.txt` names every test.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from vgpu_qemu.vm import Vm
from vgpu_stub.harness.build import GUEST
from vgpu_stub.harness.ktap import KtapReader, TestResult
from vgpu_stub.harness.machine import GUEST_FILES

_FOLDER: Final = f"{GUEST_FILES}/smoke"


def planned_tests() -> list[str]:
    """Ids of all smoke tests, as they are committed."""
    return (GUEST / "smoke/tests.txt").read_text(encoding="utf-8").splitlines()


def smoke_command_line(expression: str = "") -> list[str]:
    """The command that runs smoke tests in the guest.

    Args:
        expression: Which tests, as `pytest -k` has it; "" for all.
    """
    command = ["python3", "-m", "pytest", "-p", "ktap", "--ktap", "--tb=short"]
    command += ["-p", "no:cacheprovider", "--rootdir", _FOLDER]
    command += ["-k", expression] if expression else []
    return [*command, _FOLDER]


def run_smoke(
    vm: Vm,
    expression: str = "",
    *,
    reader: KtapReader,
    timeout: float | None = None,
    on_stdout: Callable[[bytes], None] | None = None,
    on_stderr: Callable[[bytes], None] | None = None,
) -> list[TestResult]:
    """Run smoke tests in a guest; a test that was planned and did not report has failed.

    Args:
        vm: The guest.
        expression: Which tests, as `pytest -k` has it; "" for all.
        reader: Takes the results as they come.
        timeout: Seconds for all of them.
        on_stdout: Takes the output in place of the reader, and passes it on.
        on_stderr: Takes what else is written.

    Raises:
        CommandTimeoutError: They did not end in time; what had reported is in the reader.
        VmError: The machine ended meanwhile.
    """
    vm.run(
        smoke_command_line(expression),
        timeout=timeout,
        env={"PYTHONPATH": _FOLDER},
        on_stdout=on_stdout or reader.feed,
        on_stderr=on_stderr,
    )
    return reader.close()
