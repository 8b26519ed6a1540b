"""The guest/host ABI, written once: constants and structures.

Everything that the guest driver, the CUDA libraries and the host share is declared here (registers,
memory layout, ring structures) and in `vgpu_stub.abi.commands`. `vgpu_stub.abi.generate` turns it
into the C headers in `guest/include`, the Python tables in `vgpu_stub.abi.generated` and the
command reference in `docs`. All integers are little endian and naturally aligned; reserved fields
are written 0 and ignored.
"""

from __future__ import annotations

from typing import Final

from vgpu_stub.abi.model import Structure, constants, s32, u8, u16, u32, u64

ABI_MAJOR: Final = 1
ABI_MINOR: Final = 1


KIB: Final = 1024
MIB: Final = 1024 * KIB

CHANNEL_COUNT: Final = 127
CHANNEL_STRIDE: Final = 512 * KIB
SQ_ENTRIES: Final = 4096
CQ_ENTRIES: Final = 1024
SLOT_BYTES: Final = 64

#: Measured values of struct vgpu_device_status that a device may not have.
_MEASURED: Final = (
    u64("memory_total", "device memory in bytes"),
    u64("memory_used", "of it in use by all channels; on a physical GPU by everybody"),
    u64("memory_free", "of it free"),
    u64("memory_reserved", "of it reserved for the host's driver"),
    u64("bar1_total", "memory of the physical GPU that the host's CPU can map, bytes"),
    u64("bar1_used", "of it mapped"),
    u64("energy_mj", "energy since the host's driver was loaded, millijoules"),
    u64("throttle_reasons", "nvmlClocksEventReason* bits: why clocks are low"),
    u64("ecc_volatile_corrected", "errors since the host's driver was loaded"),
    u64("ecc_volatile_uncorrected", "errors since the host's driver was loaded"),
    u64("ecc_aggregate_corrected", "errors in the life of the physical GPU"),
    u64("ecc_aggregate_uncorrected", "errors in the life of the physical GPU"),
    u64("ecc_memory_volatile_corrected", "of the errors those in device memory"),
    u64("ecc_memory_volatile_uncorrected", "of the errors those in device memory"),
    u64("ecc_memory_aggregate_corrected", "of the errors those in device memory"),
    u64("ecc_memory_aggregate_uncorrected", "of the errors those in device memory"),
    u32("gpu_percent", "time in which something was carried out"),
    u32("memory_percent", "time in which device memory was read or written"),
    u32("encoder_percent", "use of the video encoder"),
    u32("encoder_period_us", "over which it was measured"),
    u32("decoder_percent", "use of the video decoder"),
    u32("decoder_period_us", "over which it was measured"),
    u32("temperature_c", "degrees Celsius"),
    u32("temperature_slowdown_c", "where clocks are lowered"),
    u32("temperature_shutdown_c", "where the GPU turns off"),
    u32("fan_percent", "speed of the first fan"),
    u32("power_mw", "milliwatts drawn"),
    u32("power_limit_mw", "set by the host"),
    u32("power_default_limit_mw", "after power-on"),
    u32("power_enforced_limit_mw", "the least of all limits"),
    u32("power_min_limit_mw", "least that may be set"),
    u32("power_max_limit_mw", "most that may be set"),
    u32("clock_graphics_mhz", "now"),
    u32("clock_sm_mhz", "now"),
    u32("clock_memory_mhz", "now"),
    u32("clock_video_mhz", "now"),
    u32("clock_graphics_max_mhz", "highest"),
    u32("clock_sm_max_mhz", "highest"),
    u32("clock_memory_max_mhz", "highest"),
    u32("clock_video_max_mhz", "highest"),
    u32("performance_state", "0 (fastest) to 15"),
    u32("ecc_mode", "1: ECC is on"),
    u32("ecc_mode_pending", "after the next boot"),
    u32("pcie_generation", "of the physical GPU's link, now"),
    u32("pcie_generation_max", "of the physical GPU's link"),
    u32("pcie_width", "lanes of the physical GPU's link, now"),
    u32("pcie_width_max", "lanes of the physical GPU's link"),
    u32("pcie_replays", "replays on the physical GPU's link"),
    u32("persistence_mode", "1: on"),
    u32("mig_mode", "1: the physical GPU is partitioned"),
    u32("mig_mode_pending", "after the next reset"),
    u32("brand", "nvmlBrandType_t"),
    u32("architecture", "nvmlDeviceArchitecture_t"),
    u32("cores", "CUDA cores"),
    u32("memory_bus_bits", "width of the memory bus"),
    u32("process_use", "1: the percentages of processes are measured"),
)

CONSTANTS: Final = (
    *constants(
        "Identity (PCI configuration space)",
        ("PCI_VENDOR_ID", 0x1234, "default vendor id; not NVIDIA's, so no other driver binds"),
        ("PCI_DEVICE_ID", 0x5055, "default device id"),
        ("PCI_CLASS", 0x030200, "3D controller"),
        ("PCI_REVISION", 1, "revision id"),
    ),
    *constants(
        "Version",
        ("ABI_MAJOR", ABI_MAJOR, "guest and host must agree exactly"),
        ("ABI_MINOR", ABI_MINOR, "the host's must be at least the guest's"),
        ("ABI_VERSION", ABI_MAJOR << 16 | ABI_MINOR, "major in the upper 16 bits"),
        ("MAGIC", 0x55504756, 'the bytes "VGPU"'),
    ),
    *constants(
        "BAR0: registers (32-bit accesses; 64-bit ones are two 32-bit ones, low word first)",
        ("BAR0_BYTES", 64 * KIB, "size of BAR0"),
        ("REG_MAGIC", 0x000, "RO: VGPU_MAGIC"),
        ("REG_ABI_VERSION", 0x004, "RO: the host's VGPU_ABI_VERSION"),
        ("REG_FEATURES_LOW", 0x008, "RO: VGPU_FEATURE_* bits 31:0"),
        ("REG_FEATURES_HIGH", 0x00C, "RO: VGPU_FEATURE_* bits 63:32"),
        ("REG_STATUS", 0x010, "RO: VGPU_STATUS_* bits"),
        ("REG_CONTROL", 0x014, "RW: VGPU_CONTROL_* bits"),
        ("REG_ERROR", 0x018, "RW1C: VGPU_DEVICE_ERROR_*, the first since it was last cleared"),
        ("REG_ERROR_CHANNEL", 0x01C, "RO: channel that REG_ERROR is about, or 0"),
        ("REG_GUEST_ABI_VERSION", 0x020, "RW: the guest states its VGPU_ABI_VERSION here"),
        ("REG_SCRATCH", 0x024, "RW: keeps what is written, 0 after reset"),
        ("REG_CHANNEL_COUNT", 0x028, "RO: number of channels, the admin channel 0 included"),
        ("REG_CHANNEL_BASE", 0x02C, "RO: offset of channel 0 in BAR2"),
        ("REG_CHANNEL_STRIDE", 0x030, "RO: bytes of BAR2 for each channel"),
        ("REG_SQ_ENTRIES", 0x034, "RO: slots of a submission ring, a power of two"),
        ("REG_CQ_ENTRIES", 0x038, "RO: entries of a completion ring, a power of two"),
        ("REG_VECTOR_COUNT", 0x03C, "RO: MSI-X vectors"),
        ("REG_RESET_COUNT", 0x040, "RO: resets since the device was made"),
        ("REG_INTERRUPT_TEST", 0x044, "WO: signals the MSI-X vector of that number"),
        ("REG_INTERRUPT_TEST_COUNT", 0x048, "RO: writes to REG_INTERRUPT_TEST since reset"),
        ("REG_ACCESS_COUNT", 0x04C, "RO: trapped BAR0 accesses since reset, this one included"),
        ("REG_DOORBELL", 0x1000, "WO: array of 32-bit doorbells, one for each channel"),
        ("MSIX_TABLE_OFFSET", 0x8000, "MSI-X table"),
        ("MSIX_PBA_OFFSET", 0xC000, "MSI-X pending bit array"),
        ("VECTOR_COUNT", 65, "vector 0: admin completions and device errors; 1..: channels"),
    ),
    *constants(
        "REG_FEATURES bits",
        ("FEATURE_EVENT_SUPPRESSION", 1 << 0, "doorbells and interrupts only when asked for"),
        ("FEATURE_SCATTER_LIST", 1 << 1, "memory is registered by scatter list"),
        ("FEATURE_SOFTWARE_GPU", 1 << 2, "commands execute on the software GPU"),
    ),
    *constants(
        "REG_STATUS bits",
        ("STATUS_READY", 1 << 0, "the device may be enabled"),
        ("STATUS_ENABLED", 1 << 1, "the admin channel accepts commands"),
        ("STATUS_ERROR", 1 << 2, "REG_ERROR holds a device error; reset to recover"),
        ("STATUS_ABI_REFUSED", 1 << 3, "guest and host ABI disagree: enabling was refused"),
    ),
    *constants(
        "REG_CONTROL bits",
        ("CONTROL_ENABLE", 1 << 0, "start the admin channel; clearing it is a reset"),
        ("CONTROL_RESET", 1 << 1, "write 1: full reset; reads 0"),
    ),
    *constants(
        "REG_ERROR codes",
        ("DEVICE_ERROR_NONE", 0, "no error"),
        ("DEVICE_ERROR_ADMIN_RING", 1, "the admin ring is inconsistent"),
        ("DEVICE_ERROR_WORKER_LOST", 2, "a channel's worker died; the device goes on"),
        ("DEVICE_ERROR_DMA_REMOVED", 3, "a DMA window with registered memory was unmapped"),
        ("DEVICE_ERROR_RING", 4, "a channel's submission ring is inconsistent"),
    ),
    *constants(
        "BAR2: shared memory (never trapped)",
        ("BAR2_BYTES", 64 * MIB, "size of BAR2"),
        ("INFO_OFFSET", 0, "struct vgpu_device_info, read only for the guest"),
        ("CHANNEL_COUNT", CHANNEL_COUNT, "channels, the admin channel 0 included"),
        ("CHANNEL_BASE", CHANNEL_STRIDE, "offset of channel 0"),
        ("CHANNEL_STRIDE", CHANNEL_STRIDE, "bytes for each channel"),
        ("CONTROL_OFFSET", 0x0000, "in a channel: struct vgpu_channel_control"),
        ("GUEST_COUNTERS_OFFSET", 0x1000, "in a channel: struct vgpu_guest_counters"),
        ("REFUSED_OFFSET", 0x2000, "in a channel: __u32 for each CUDA function: refused calls"),
        ("REFUSED_ENTRIES", 1024, "number of those"),
        ("REFUSED_NAMES_OFFSET", 0x4000, "in a channel: array of struct vgpu_refused_call"),
        ("REFUSED_NAMES", 256, "number of those"),
        ("HOST_COUNTERS_OFFSET", 0x3000, "in a channel: struct vgpu_host_counters"),
        ("CQ_OFFSET", 0x10000, "in a channel: completion ring"),
        ("SQ_OFFSET", 0x40000, "in a channel: submission ring"),
        ("SQ_ENTRIES", SQ_ENTRIES, "slots of a submission ring"),
        ("CQ_ENTRIES", CQ_ENTRIES, "entries of a completion ring"),
        ("SLOT_BYTES", SLOT_BYTES, "bytes of a submission slot and of a completion"),
        ("COMMAND_MAX_SLOTS", 1024, "slots of the longest command"),
    ),
    *constants(
        "Command header flags",
        ("COMMAND_COMPLETE", 1 << 0, "write a completion once the command has been carried out"),
        ("COMMAND_WAIT", 1 << 1, "complete only when the stream has reached the command"),
    ),
    *constants(
        "Completion flags",
        (
            "COMPLETION_ASYNC_ERROR",
            1 << 0,
            "the status is that of an earlier, asynchronous command",
        ),
    ),
    *constants(
        "Channel states (vgpu_channel_control.state)",
        ("CHANNEL_CLOSED", 0, "no worker"),
        ("CHANNEL_READY", 1, "a worker drains the ring"),
        ("CHANNEL_FAILED", 2, "dead for good; vgpu_channel_control.error says why"),
    ),
    *constants(
        "Reserved handles",
        ("STREAM_LEGACY", 0, "the legacy default stream"),
        ("STREAM_FIRST", 16, "handles below this are never given out"),
    ),
    *constants(
        "Memory registration",
        ("REGISTER_READ", 1 << 0, "the device may read the memory"),
        ("REGISTER_WRITE", 1 << 1, "the device may write the memory"),
        ("SCATTER_ENTRIES", 255, "entries of one scatter block"),
        ("REGISTER_MAX_EXTENTS", 32768, "extents of one registration, and of one channel"),
        ("REGISTRATION_MAX", 4096, "registration ids are 1 to this, chosen by the guest"),
    ),
    *constants(
        "Module images",
        ("IMAGE_PTX", 1, "PTX text"),
        ("IMAGE_CUBIN", 2, "an ELF cubin"),
    ),
    *constants(
        "Routines of VGPU_OP_BLAS",
        ("BLAS_GEMM", 1, "C = alpha op(A) op(B) + beta C"),
        ("BLAS_TRSM", 2, "solves op(A) X = alpha B, or X op(A) = alpha B; X replaces B"),
        ("BLAS_SYMM", 3, "C = alpha A B + beta C, or alpha B A + beta C; A symmetric"),
        ("BLAS_HEMM", 4, "the same, A Hermitian"),
        ("BLAS_SYRK", 5, "C = alpha op(A) op(A)' + beta C, one triangle of it"),
        ("BLAS_HERK", 6, "C = alpha op(A) op(A)* + beta C, one triangle of it; real scalars"),
        ("BLAS_SYR2K", 7, "C = alpha (op(A) op(B)' + op(B) op(A)') + beta C, one triangle of it"),
        ("BLAS_HER2K", 8, "the same with conjugates; beta is real"),
        ("BLAS_SYRKX", 9, "C = alpha op(A) op(B)' + beta C, one triangle of it"),
        ("BLAS_HERKX", 10, "C = alpha op(A) op(B)* + beta C, one triangle of it; beta is real"),
        ("BLAS_TRMM", 11, "C = alpha op(A) B or alpha B op(A); A triangular"),
        ("BLAS_GEAM", 12, "C = alpha op(A) + beta op(B)"),
        ("BLAS_DGMM", 13, "C = diag(B) A, or A diag(B)"),
        ("BLAS_GEMV", 32, "C = alpha op(A) B + beta C; B and C vectors"),
        ("BLAS_GER", 33, "C = alpha A B' + C; A and B vectors"),
        ("BLAS_GERC", 34, "C = alpha A B* + C; A and B vectors"),
        ("BLAS_SYMV", 35, "C = alpha A B + beta C; A symmetric, B and C vectors"),
        ("BLAS_HEMV", 36, "the same, A Hermitian"),
        ("BLAS_TRMV", 37, "B = op(A) B; A triangular, B a vector"),
        ("BLAS_TRSV", 38, "solves op(A) X = B; A triangular, the vector X replaces B"),
        (
            "BLAS_AXPY",
            64,
            "B = alpha A + B; from here on vectors of length n; alpha is of C's type",
        ),
        ("BLAS_SCAL", 65, "A = alpha A; alpha is of C's type"),
        ("BLAS_COPY", 66, "B = A"),
        ("BLAS_SWAP", 67, "exchanges A and B"),
        ("BLAS_DOT", 68, "the sum of A B, to C in device memory"),
        ("BLAS_DOTC", 69, "the sum of conj(A) B, to C in device memory"),
        ("BLAS_NRM2", 70, "the Euclidean length of A, to C in device memory"),
        ("BLAS_ASUM", 71, "the sum of |re| + |im| of A, to C in device memory"),
        ("BLAS_AMAX", 72, "where |re| + |im| is largest, from 1, to C in device memory"),
        ("BLAS_AMIN", 73, "where |re| + |im| is smallest, from 1, to C in device memory"),
    ),
    *constants(
        "Flags of VGPU_OP_BLAS",
        ("BLAS_FLAG_DEVICE_SCALARS", 1 << 0, "alpha and beta are device pointers"),
        (
            "BLAS_FLAG_POINTER_ARRAYS",
            1 << 1,
            "a, b and c point to device arrays of `batch` pointers",
        ),
    ),
    *constants(
        "Device attributes",
        ("ATTRIBUTE_COUNT", 512, "entries of vgpu_device_info.attributes"),
        ("ATTRIBUTE_ABSENT", -0x80000000, "the device does not know this attribute"),
    ),
    *constants(
        "Device status (DEVICE_STATUS)",
        ("STATUS_BYTES", 4096, "bytes of a reply: struct vgpu_device_status and what follows it"),
        ("STATUS_EVENTS", 16, "events that a reply holds: the last ones"),
        ("STATUS_PROCESSES", 108, "most processes that a reply lists"),
        *(
            (f"KNOWN_{member.name.upper()}", 1 << bit, f"`{member.name}` holds a value")
            for bit, member in enumerate(_MEASURED)
        ),
    ),
    *constants(
        "Opcode ranges",
        ("OPCODE_COUNT", 256, "opcodes of ordinary channels are below this"),
        ("OPCODE_ADMIN_FIRST", 256, "opcodes of the admin channel start here"),
    ),
)

HEADER: Final = Structure(
    "command_header",
    "Start of every command in a submission ring. A command takes whole consecutive slots; one that"
    " would cross the end of the ring is preceded by a NOP that fills the rest.",
    (
        u16("opcode", "enum vgpu_opcode"),
        u16("slots", "slots taken, this one included; 1 to VGPU_COMMAND_MAX_SLOTS"),
        u16("flags", "VGPU_COMMAND_*"),
        u16("context", "context handle, or 0"),
        u64("sequence", "chosen by the guest; returned in the completion"),
    ),
)

COMPLETION: Final = Structure(
    "completion",
    "One entry of a completion ring. Valid once vgpu_channel_control.cq_tail has passed it.",
    (
        u64("sequence", "of the command that is complete"),
        s32("status", "CUresult"),
        u32("flags", "VGPU_COMPLETION_*"),
        u64("result", "results of the command", 6),
    ),
)

CONTROL: Final = Structure(
    "channel_control",
    "Head and tail of both rings. Indexes count up for ever; the slot is the index modulo the size."
    " The first half is written by the guest alone, the second by the host alone.",
    (
        u64("sq_tail", "guest: slots submitted"),
        u64("cq_head", "guest: completions consumed"),
        u32("cq_waiting", "guest: 1 asks for an interrupt at the next completion"),
        u32("reserved0", "0"),
        u8("reserved1", "0", 104),
        u64("sq_head", "host: slots consumed"),
        u64("cq_tail", "host: completions produced"),
        u32("sq_sleeping", "host: 1 asks for a doorbell at the next submission"),
        u32("state", "host: VGPU_CHANNEL_*"),
        s32("error", "host: CUresult of the first asynchronous error not yet reported, or 0"),
        u32("generation", "host: counts the uses of this channel"),
        u8("reserved2", "0", 88),
    ),
)

GUEST_COUNTERS: Final = Structure(
    "guest_counters",
    "Kept by the CUDA library of the guest, for people to look at; the host does not rely on them.",
    (
        u64("submissions", "commands submitted"),
        u64("launches", "kernel launches submitted"),
        u64("doorbells", "doorbells rung (each a trapped write)"),
        u64("waits", "sleeps for an interrupt (each a system call)"),
        u64("ring_full", "submissions that found the ring full"),
        u64("refused", "calls answered with CUDA_ERROR_NOT_SUPPORTED"),
        u64("staged_bytes", "bytes copied through the staging buffer"),
        u64("reserved", "0"),
    ),
)

REFUSED_CALL: Final = Structure(
    "refused_call",
    "Calls that another library than libcuda answered with an error because they are not"
    " supported; written by the guest. Entries are used from the first on, the last for the rest.",
    (
        u8("name", "of the function, NUL-terminated, cut to fit; empty: not used", 56),
        u64("count", "calls"),
    ),
)

HOST_COUNTERS: Final = Structure(
    "host_counters",
    "Kept by the worker of the channel, for people to look at; current after each batch of"
    " commands.",
    (
        u64("commands", "commands carried out, by opcode", 256),
        u64("bytes_to_device", "host to device, inline copies included"),
        u64("bytes_to_host", "device to host"),
        u64("errors", "commands that failed"),
        u64("last_error", "CUresult of the last of them"),
        u64("sleeps", "times the worker went to sleep"),
        u64("interrupts", "interrupts signalled"),
        u64("busy_ns", "time spent carrying out commands"),
        u64("memory_bytes", "device memory held"),
        u64("allocations", "device memory allocations alive"),
        u64("registered_bytes", "guest memory registered"),
        u64("modules", "modules loaded"),
        u64("worker_pid", "process id of the worker, on the host"),
        u64("graph_nodes", "nodes that graph launches ran"),
        u64("graph_kernels", "kernel launches among them"),
        u64("busy_since_ns", "CLOCK_MONOTONIC since when commands are carried out, 0: none are"),
        u64("output_bytes", "that kernels have printed; current before each completion"),
        u64("ring_high_water", "most submission slots that the worker found waiting"),
    ),
)

GRAPH_NODE: Final = Structure(
    "graph_node",
    "One node of GRAPH_INSTANTIATE and GRAPH_UPDATE. Behind it the places of the nodes that it"
    " waits for, a __u32 each, all smaller than its own; then, at the next multiple of 8, its"
    " command with header and tail; then, at the next multiple of 8, the next node.",
    (
        u32("dependencies", "number of nodes that it waits for"),
        u32("command_bytes", "of the command"),
    ),
)

DEVICE_INFO: Final = Structure(
    "device_info",
    "What the device is: one snapshot, made when the device starts, at VGPU_INFO_OFFSET in BAR2.",
    (
        u32("magic", "VGPU_MAGIC"),
        u32("abi_version", "VGPU_ABI_VERSION of the host"),
        u64("total_memory", "device memory in bytes"),
        s32("driver_version", "as cuDriverGetVersion reports it"),
        s32("compute_major", "compute capability"),
        s32("compute_minor", "compute capability"),
        u32("attribute_count", "VGPU_ATTRIBUTE_COUNT"),
        u8("uuid", "as cuDeviceGetUuid reports it", 16),
        u8("name", "NUL-terminated UTF-8", 128),
        u8("executor", 'NUL-terminated: "software" or "cuda"', 16),
        s32("attributes", "by CUdevice_attribute; VGPU_ATTRIBUTE_ABSENT where unknown", 512),
    ),
)

FUNCTION_INFO: Final = Structure(
    "function_info",
    "Reply of MODULE_GET_FUNCTION, followed by parameter_count times struct vgpu_parameter_info.",
    (
        s32("max_threads_per_block", "CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK"),
        s32("shared_bytes", "CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES"),
        s32("const_bytes", "CU_FUNC_ATTRIBUTE_CONST_SIZE_BYTES"),
        s32("local_bytes", "CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES"),
        s32("registers", "CU_FUNC_ATTRIBUTE_NUM_REGS"),
        s32("ptx_version", "CU_FUNC_ATTRIBUTE_PTX_VERSION"),
        s32("binary_version", "CU_FUNC_ATTRIBUTE_BINARY_VERSION"),
        s32("max_dynamic_shared_bytes", "CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES"),
        u32("parameter_count", "number of kernel parameters"),
        u32("parameter_bytes", "size of the packed parameter block"),
    ),
)

PARAMETER_INFO: Final = Structure(
    "parameter_info",
    "Place of one kernel parameter in the packed parameter block.",
    (u32("offset", "bytes"), u32("size", "bytes")),
)

LINK_PART: Final = Structure(
    "link_part",
    "Head of a part of MODULE_LINK, followed by its name, the image, and padding to 8 bytes.",
    (
        u32("kind", "VGPU_IMAGE_*"),
        u32("name_bytes", "length of the name, which is for the log"),
        u64("size", "of the image in bytes"),
    ),
)

SCATTER_ENTRY: Final = Structure(
    "scatter_entry",
    "A run of guest memory.",
    (u64("iova", "I/O virtual address"), u64("length", "bytes, more than 0")),
)

SCATTER_BLOCK: Final = Structure(
    "scatter_block",
    "Head of a 4096-byte block of a scatter list, followed by `count` times"
    " struct vgpu_scatter_entry.",
    (
        u64("next", "I/O virtual address of the next block, or 0"),
        u32("count", "entries in this block, 1 to VGPU_SCATTER_ENTRIES"),
        u32("reserved", "0"),
    ),
)

DEVICE_STATUS: Final = Structure(
    "device_status",
    "Reply of DEVICE_STATUS, measured on the host, followed by VGPU_STATUS_EVENTS times"
    " struct vgpu_device_event and `process_count` times struct vgpu_device_process. A value that"
    " `known` does not name is 0 and means nothing.",
    (
        u64("time_us", "of the host's clock: microseconds since 1970"),
        u64("known", "VGPU_KNOWN_* bits"),
        *_MEASURED,
        u64("event_types", "nvmlEventType* bits that this device can report"),
        u64("event_count", "events so far; number n is entry n % VGPU_STATUS_EVENTS of the events"),
        u32("sample_period_us", "over which utilisation was measured"),
        u32("process_count", "processes that follow, at most VGPU_STATUS_PROCESSES"),
        u8("driver_version", "of the host's GPU driver, NUL-terminated", 32),
    ),
)

DEVICE_EVENT: Final = Structure(
    "device_event",
    "One event in a DEVICE_STATUS reply.",
    (
        u64("type", "nvmlEventType* bit"),
        u64("data", "what NVML gives as eventData: of an Xid error its number"),
    ),
)

DEVICE_PROCESS: Final = Structure(
    "device_process",
    "One channel in a DEVICE_STATUS reply.",
    (
        u64("memory_bytes", "device memory that it holds"),
        u32("pid", "process of the guest, as CHANNEL_CREATE gave it"),
        u32("channel", "channel number"),
        u32("gpu_percent", "time in which its work was carried out"),
        u32("memory_percent", "time in which it read or wrote device memory"),
        u32("encoder_percent", "of the video encoder"),
        u32("decoder_percent", "of the video decoder"),
    ),
)

STRUCTURES: Final = (
    HEADER,
    COMPLETION,
    CONTROL,
    GUEST_COUNTERS,
    REFUSED_CALL,
    HOST_COUNTERS,
    GRAPH_NODE,
    DEVICE_INFO,
    FUNCTION_INFO,
    PARAMETER_INFO,
    LINK_PART,
    SCATTER_ENTRY,
    SCATTER_BLOCK,
    DEVICE_STATUS,
    DEVICE_EVENT,
    DEVICE_PROCESS,
)
