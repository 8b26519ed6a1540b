"""The plugin's hooks and fixtures; entry point `vgpu` of group `pytest11`.

pytest imports this module at every start, of projects too that never ask for a device: so what a
fixture needs (numpy, LLVM, the launcher) is imported when it is first used, here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING

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


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Attach to a failure what the devices and machines of the test can say."""
    report = yield
    if report.failed:
        attach_witnesses(item, report)
    return report


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
