"""The plugin's hooks and fixtures; entry point `vgpu` of group `pytest11`.

pytest imports this module at every start, of projects too that never ask for a device: so what a
fixture needs (numpy, LLVM, the launcher) is imported when it is first used, here and nowhere else.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import pytest

from vgpu_stub.pytest_plugin.reports import add_witness, attach_witnesses
from vgpu_stub.pytest_plugin.settings import (
    VgpuSettings,
    add_markers,
    add_options,
    kernels_of,
    resolve,
)

if TYPE_CHECKING:
    from vgpu_stub.harness.local_device import LocalDevice
    from vgpu_stub.pytest_plugin.devices import DeviceMaker
    from vgpu_stub.pytest_plugin.machines import MachineKeeper, VgpuMachine
    from vgpu_stub.pytest_plugin.programs import ProgramRunner


_MACHINE: Final = pytest.StashKey["VgpuMachine"]()
_WEDGED: Final = pytest.StashKey[bool]()
#: Of a report; it travels with it from the processes of xdist.
_WEDGED_ATTRIBUTE: Final = "vgpu_wedged"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--vgpu-...` and the ini values."""
    add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    """Make the markers known."""
    add_markers(config)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run tests on each kernel that was asked for."""
    if "vgpu_kernel" not in metafunc.fixturenames:
        return
    kernels = kernels_of(metafunc.config, metafunc.definition.iter_markers("vgpu"))
    if len(kernels) > 1:
        metafunc.parametrize("vgpu_kernel", kernels, scope="session")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Let `--dist loadgroup` of xdist run no more machines at once than memory allows."""
    wanting = [item for item in items if "vgpu_vm" in getattr(item, "fixturenames", ())]
    if wanting and os.environ.get("PYTEST_XDIST_WORKER_COUNT"):
        from vgpu_stub.pytest_plugin.groups import group_machines

        group_machines(config, wanting, int(os.environ["PYTEST_XDIST_WORKER_COUNT"]))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """Judge the machine of a test as part of the test, so that it is the test that fails."""
    machine = item.stash.get(_MACHINE, None)
    if machine is None:
        return (yield)
    from vgpu_stub.pytest_plugin.verdict import judge, judge_failed

    try:
        yield
    except (KeyboardInterrupt, SystemExit, pytest.exit.Exception):
        raise
    except BaseException as error:
        item.stash[_WEDGED] = judge_failed(machine, error)
        raise
    judge(machine, [str(text) for mark in item.iter_markers("vgpu_expects") for text in mark.args])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Attach to a failure what the devices and machines of the test can say."""
    report = yield
    if report.failed:
        attach_witnesses(item, report)
        if _MACHINE in item.stash and call.when == "call" and call.excinfo:
            from vgpu_stub.pytest_plugin.verdict import is_wedge

            wedged = item.stash.get(_WEDGED, False) or is_wedge(call.excinfo.value)
            setattr(report, _WEDGED_ATTRIBUTE, wedged)
    return report


def pytest_report_teststatus(report: pytest.TestReport) -> tuple[str, str, str] | None:
    """Call a test that wedged its machine WEDGED; it is a failure all the same."""
    if report.failed and getattr(report, _WEDGED_ATTRIBUTE, False):
        return "failed", "W", "WEDGED"
    return None


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Count wedged tests, which pytest counts with the failed ones."""
    failed = terminalreporter.stats.get("failed", [])
    wedged = sum(bool(getattr(report, _WEDGED_ATTRIBUTE, False)) for report in failed)
    if wedged:
        terminalreporter.write_line(f"VGPU-STUB: {wedged} of the failed tests wedged their machine")


@pytest.fixture
def vgpu_settings(request: pytest.FixtureRequest) -> VgpuSettings:
    """What the test wants, of markers, command line and ini file."""
    return resolve(request.config, request.node.iter_markers("vgpu"))


@pytest.fixture
def vgpu_kernel(vgpu_settings: VgpuSettings) -> str:
    """The guest kernel of the test; with several to choose from the test runs on each."""
    return vgpu_settings.kernel


@pytest.fixture(scope="session")
def vgpu_device_maker() -> Iterator[DeviceMaker]:
    """Makes devices for tests that need more than one, or one of their own making."""
    from vgpu_stub.pytest_plugin.devices import DeviceMaker

    maker = DeviceMaker()
    yield maker
    maker.close()


@pytest.fixture
def vgpu_device(
    request: pytest.FixtureRequest, vgpu_device_maker: DeviceMaker, vgpu_settings: VgpuSettings
) -> Iterator[LocalDevice]:
    """A device in its power-on state and workers for it, without a VM."""
    from vgpu_stub.pytest_plugin.devices import DeviceWitness

    with vgpu_device_maker.device(vgpu_settings) as device:
        add_witness(request.node, DeviceWitness(device))
        yield device


@pytest.fixture(scope="session")
def vgpu_machines() -> Iterator[MachineKeeper]:
    """Keeps the machine of `vgpu_vm`; counts its boots."""
    from vgpu_stub.pytest_plugin.machines import MachineKeeper

    keeper = MachineKeeper()
    yield keeper
    keeper.close()


@pytest.fixture
def vgpu_vm(
    request: pytest.FixtureRequest,
    vgpu_machines: MachineKeeper,
    vgpu_settings: VgpuSettings,
    vgpu_kernel: str,
) -> Iterator[VgpuMachine]:
    """A booted machine with the device; tests that leave it clean share it."""
    settings = replace(vgpu_settings, kernel=vgpu_kernel)
    machine = vgpu_machines.machine(settings)
    machine.begin_test(settings)
    request.node.stash[_MACHINE] = machine
    add_witness(request.node, machine)
    yield machine
    vgpu_machines.give_back(machine)


@pytest.fixture(scope="session")
def vgpu_program_runner() -> Iterator[ProgramRunner]:
    """Keeps the device server of `vgpu_exec`."""
    from vgpu_stub.pytest_plugin.programs import ProgramRunner

    runner = ProgramRunner()
    yield runner
    runner.close()


@pytest.fixture
def vgpu_exec(
    request: pytest.FixtureRequest,
    vgpu_program_runner: ProgramRunner,
    vgpu_settings: VgpuSettings,
) -> Iterator[ProgramRunner]:
    """Runs programs on the device without a VM, as `vgpu-stub exec` does."""
    vgpu_program_runner.begin_test(vgpu_settings)
    add_witness(request.node, vgpu_program_runner)
    yield vgpu_program_runner
    vgpu_program_runner.end_test()
