"""What libcuda refuses is reported absent, and what is reported works, on every executor."""

from __future__ import annotations

import pytest

from vgpu_host.executors.cuda_attributes import NOT_CARRIED
from vgpu_host.executors.software.device_attributes import device_attributes
from vgpu_host.executors.software.profiles import PROFILES
from vgpu_stub.abi.driver_api import State, entry_points

#: An attribute by number of CUdevice_attribute, and functions of which it says whether they work.
FEATURES = {
    19: ("cuMemHostGetDevicePointer_v2",),
    83: ("cuMemAllocManaged",),
    89: ("cuMemPrefetchAsync", "cuMemAdvise"),
    92: ("cuStreamWaitValue32", "cuStreamWriteValue32", "cuStreamBatchMemOp"),
    93: ("cuStreamWaitValue64", "cuStreamWriteValue64"),
    95: ("cuLaunchCooperativeKernel",),
    96: ("cuLaunchCooperativeKernelMultiDevice",),
    102: ("cuMemCreate", "cuMemMap", "cuMemAddressReserve", "cuMemSetAccess"),
    108: ("cuCtxResetPersistingL2Cache",),
    114: ("cuImportExternalSemaphore", "cuSignalExternalSemaphoresAsync"),
    115: ("cuMemAllocAsync", "cuMemFreeAsync", "cuMemPoolCreate", "cuDeviceGetDefaultMemPool"),
    117: ("cuFlushGPUDirectRDMAWrites",),
    120: ("cuOccupancyMaxActiveClusters", "cuOccupancyMaxPotentialClusterSize"),
    124: ("cuMemGetHandleForAddressRange",),
    125: ("cuIpcGetEventHandle", "cuIpcOpenEventHandle"),
    127: ("cuTensorMapEncodeTiled",),
    132: ("cuMulticastCreate",),
    136: ("cuMemBatchDecompressAsync",),
}
STATES = {entry.symbol: entry.state for entry in entry_points()}


@pytest.mark.parametrize("attribute", FEATURES)
def test_an_attribute_says_what_its_functions_do(attribute: int) -> None:
    refused = {STATES[symbol] is State.REFUSED for symbol in FEATURES[attribute]}
    assert len(refused) == 1, "some of its functions work and some do not"
    software = device_attributes(PROFILES["sm_80"], 2).get(attribute, 0)
    if refused == {True}:
        assert attribute in NOT_CARRIED
        assert software == 0
    else:
        assert attribute not in NOT_CARRIED or software
