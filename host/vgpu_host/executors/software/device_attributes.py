"""The device attributes of the software GPU, by their `CUdevice_attribute` number."""

from __future__ import annotations

from .profiles import SHARED_PER_BLOCK, Profile

MAX_THREADS = 1024
#: GPUs end at 65535 in y and z. llama.cpp passes that with long batches on capability 6.1 (it
#: tiles in y there), and nothing here needs the limit.
MAX_GRID = (2**31 - 1, 2**31 - 1, 2**31 - 1)
#: Blocks of one launch, which compiled code counts in 64 bits.
MAX_BLOCKS = 2**62
MAX_BLOCK = (1024, 1024, 64)
CONSTANT_MEMORY = 64 * 1024
LOCAL_PER_THREAD = 128 * 1024


def device_attributes(profile: Profile, processors: int) -> dict[int, int]:
    """Attributes that are true of this device; a number that is absent is an attribute of value 0.

    `processors` is the number of host threads, each of which acts as one multiprocessor.
    What a multiprocessor has is what the profile says, so that programs choose as they do on that
    capability. A host thread holds so many blocks of a cooperative launch; of any other it runs one
    at a time.
    """
    return {
        1: MAX_THREADS,  # MAX_THREADS_PER_BLOCK
        2: MAX_BLOCK[0],
        3: MAX_BLOCK[1],
        4: MAX_BLOCK[2],
        5: MAX_GRID[0],
        6: MAX_GRID[1],
        7: MAX_GRID[2],
        8: SHARED_PER_BLOCK,  # MAX_SHARED_MEMORY_PER_BLOCK
        9: CONSTANT_MEMORY,  # TOTAL_CONSTANT_MEMORY
        10: 32,  # WARP_SIZE
        11: 2**31 - 1,  # MAX_PITCH
        12: 65536,  # MAX_REGISTERS_PER_BLOCK
        13: 1_000_000,  # CLOCK_RATE in kHz
        14: 512,  # TEXTURE_ALIGNMENT
        15: 0,  # GPU_OVERLAP
        16: processors,  # MULTIPROCESSOR_COUNT
        17: 0,  # KERNEL_EXEC_TIMEOUT
        18: 0,  # INTEGRATED
        19: 0,  # CAN_MAP_HOST_MEMORY
        20: 0,  # COMPUTE_MODE default
        30: 512,  # SURFACE_ALIGNMENT
        31: 0,  # CONCURRENT_KERNELS
        32: 0,  # ECC_ENABLED
        33: 0,  # PCI_BUS_ID
        34: 5,  # PCI_DEVICE_ID
        35: 0,  # TCC_DRIVER
        36: 1_000_000,  # MEMORY_CLOCK_RATE in kHz
        37: 64,  # GLOBAL_MEMORY_BUS_WIDTH in bits
        38: 0,  # L2_CACHE_SIZE, unknown
        39: profile.threads_per_multiprocessor,  # MAX_THREADS_PER_MULTIPROCESSOR
        40: 0,  # ASYNC_ENGINE_COUNT
        41: 1,  # UNIFIED_ADDRESSING
        50: 0,  # PCI_DOMAIN_ID
        51: 512,  # TEXTURE_PITCH_ALIGNMENT
        75: profile.capability[0],  # COMPUTE_CAPABILITY_MAJOR
        76: profile.capability[1],  # COMPUTE_CAPABILITY_MINOR
        78: 0,  # STREAM_PRIORITIES_SUPPORTED
        79: 1,  # GLOBAL_L1_CACHE_SUPPORTED
        80: 1,  # LOCAL_L1_CACHE_SUPPORTED
        81: profile.shared_per_multiprocessor,  # MAX_SHARED_MEMORY_PER_MULTIPROCESSOR
        82: 65536,  # MAX_REGISTERS_PER_MULTIPROCESSOR
        83: 0,  # MANAGED_MEMORY
        84: 0,  # MULTI_GPU_BOARD
        87: 32,  # SINGLE_TO_DOUBLE_PRECISION_PERF_RATIO
        88: 0,  # PAGEABLE_MEMORY_ACCESS
        89: 0,  # CONCURRENT_MANAGED_ACCESS
        90: 0,  # COMPUTE_PREEMPTION_SUPPORTED
        91: 0,  # CAN_USE_HOST_POINTER_FOR_REGISTERED_MEM
        95: 1,  # COOPERATIVE_LAUNCH
        96: 0,  # COOPERATIVE_MULTI_DEVICE_LAUNCH
        97: profile.shared_optin,  # MAX_SHARED_MEMORY_PER_BLOCK_OPTIN
        99: 0,  # HOST_REGISTER_SUPPORTED
        102: 0,  # VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED
        106: profile.blocks_per_multiprocessor,  # MAX_BLOCKS_PER_MULTIPROCESSOR
        111: profile.shared_reserved,  # RESERVED_SHARED_MEMORY_PER_BLOCK
        115: 0,  # MEMORY_POOLS_SUPPORTED
        120: 0,  # CLUSTER_LAUNCH: clusters of one block only
        127: 0,  # TENSOR_MAP_ACCESS_SUPPORTED
    }
