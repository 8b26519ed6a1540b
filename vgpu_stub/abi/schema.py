"""The guest/host ABI, written once.

Everything that the guest driver, the CUDA libraries and the host share is declared here: registers,
memory layout, ring structures, commands. `vgpu_stub.abi.generate` turns it into the C headers in
`guest/include`, the Python tables in `vgpu_stub.abi.generated` and the command reference in `docs`.
All integers are little endian and naturally aligned; reserved fields are written 0 and ignored.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Final

#: C scalar type -> `struct` format character.
SCALARS: Final = {
    "__u8": "B",
    "__u16": "H",
    "__u32": "I",
    "__s32": "i",
    "__u64": "Q",
}

ABI_MAJOR: Final = 1
ABI_MINOR: Final = 0


@dataclass(frozen=True)
class Constant:
    """A named number; `group` is the heading under which it is printed."""

    name: str
    value: int
    doc: str
    group: str


@dataclass(frozen=True)
class Field:
    """A member of a structure; `count` > 1 makes it an array, of bytes when the type is `__u8`."""

    name: str
    ctype: str
    doc: str
    count: int = 1

    @property
    def format(self) -> str:
        """The member as a `struct` format; byte arrays are one `bytes` value."""
        if self.count == 1:
            return SCALARS[self.ctype]
        return f"{self.count}s" if self.ctype == "__u8" else f"{self.count}{SCALARS[self.ctype]}"


@dataclass(frozen=True)
class Structure:
    """A structure shared by guest and host, without implicit padding."""

    name: str
    doc: str
    fields: tuple[Field, ...]

    @property
    def format(self) -> str:
        """The whole structure as a `struct` format string."""
        return "<" + "".join(member.format for member in self.fields)

    @property
    def size(self) -> int:
        """Size in bytes."""
        return struct.calcsize(self.format)

    def offsets(self) -> dict[str, int]:
        """Byte offset of each member; raises ValueError where one is not naturally aligned."""
        offset = 0
        result = {}
        for member in self.fields:
            alignment = struct.calcsize("<" + SCALARS[member.ctype])
            if offset % alignment:
                raise ValueError(f"{self.name}.{member.name} is misaligned at {offset}")
            result[member.name] = offset
            offset += struct.calcsize("<" + member.format)
        return result


@dataclass(frozen=True)
class Command:
    """One opcode of the submission ring.

    `cuda` names the driver API functions that it carries, `tail` what the variable part after the
    fixed fields holds, `results` the words of `vgpu_completion.result` that a completion fills.
    """

    opcode: int
    name: str
    doc: str
    fields: tuple[Field, ...] = ()
    tail: str = ""
    results: tuple[str, ...] = ()
    cuda: tuple[str, ...] = ()
    admin: bool = field(default=False)

    @property
    def format(self) -> str:
        """The fixed fields after the command header, as a `struct` format string."""
        return "<" + "".join(member.format for member in self.fields)


def u8(name: str, doc: str, count: int = 1) -> Field:
    """An unsigned 8-bit member, or a byte array."""
    return Field(name, "__u8", doc, count)


def u16(name: str, doc: str) -> Field:
    """An unsigned 16-bit member."""
    return Field(name, "__u16", doc)


def u32(name: str, doc: str, count: int = 1) -> Field:
    """An unsigned 32-bit member."""
    return Field(name, "__u32", doc, count)


def s32(name: str, doc: str, count: int = 1) -> Field:
    """A signed 32-bit member."""
    return Field(name, "__s32", doc, count)


def u64(name: str, doc: str, count: int = 1) -> Field:
    """An unsigned 64-bit member."""
    return Field(name, "__u64", doc, count)


def _constants(group: str, *rows: tuple[str, int, str]) -> tuple[Constant, ...]:
    return tuple(Constant(name, value, doc, group) for name, value, doc in rows)


KIB: Final = 1024
MIB: Final = 1024 * KIB

CHANNEL_COUNT: Final = 127
CHANNEL_STRIDE: Final = 512 * KIB
SQ_ENTRIES: Final = 4096
CQ_ENTRIES: Final = 1024
SLOT_BYTES: Final = 64

CONSTANTS: Final = (
    *_constants(
        "Identity (PCI configuration space)",
        ("PCI_VENDOR_ID", 0x1234, "default vendor id; not NVIDIA's, so no other driver binds"),
        ("PCI_DEVICE_ID", 0x5055, "default device id"),
        ("PCI_CLASS", 0x030200, "3D controller"),
        ("PCI_REVISION", 1, "revision id"),
    ),
    *_constants(
        "Version",
        ("ABI_MAJOR", ABI_MAJOR, "guest and host must agree exactly"),
        ("ABI_MINOR", ABI_MINOR, "the host's must be at least the guest's"),
        ("ABI_VERSION", ABI_MAJOR << 16 | ABI_MINOR, "major in the upper 16 bits"),
        ("MAGIC", 0x55504756, 'the bytes "VGPU"'),
    ),
    *_constants(
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
    *_constants(
        "REG_FEATURES bits",
        ("FEATURE_EVENT_SUPPRESSION", 1 << 0, "doorbells and interrupts only when asked for"),
        ("FEATURE_SCATTER_LIST", 1 << 1, "memory is registered by scatter list"),
        ("FEATURE_SOFTWARE_GPU", 1 << 2, "commands execute on the software GPU"),
    ),
    *_constants(
        "REG_STATUS bits",
        ("STATUS_READY", 1 << 0, "the device may be enabled"),
        ("STATUS_ENABLED", 1 << 1, "the admin channel accepts commands"),
        ("STATUS_ERROR", 1 << 2, "REG_ERROR holds a device error; reset to recover"),
        ("STATUS_ABI_REFUSED", 1 << 3, "guest and host ABI disagree: enabling was refused"),
    ),
    *_constants(
        "REG_CONTROL bits",
        ("CONTROL_ENABLE", 1 << 0, "start the admin channel; clearing it is a reset"),
        ("CONTROL_RESET", 1 << 1, "write 1: full reset; reads 0"),
    ),
    *_constants(
        "REG_ERROR codes",
        ("DEVICE_ERROR_NONE", 0, "no error"),
        ("DEVICE_ERROR_ADMIN_RING", 1, "the admin ring is inconsistent"),
        ("DEVICE_ERROR_WORKER_LOST", 2, "a channel's worker died; the device goes on"),
        ("DEVICE_ERROR_DMA_REMOVED", 3, "a DMA window with registered memory was unmapped"),
        ("DEVICE_ERROR_RING", 4, "a channel's submission ring is inconsistent"),
    ),
    *_constants(
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
        ("HOST_COUNTERS_OFFSET", 0x3000, "in a channel: struct vgpu_host_counters"),
        ("CQ_OFFSET", 0x10000, "in a channel: completion ring"),
        ("SQ_OFFSET", 0x40000, "in a channel: submission ring"),
        ("SQ_ENTRIES", SQ_ENTRIES, "slots of a submission ring"),
        ("CQ_ENTRIES", CQ_ENTRIES, "entries of a completion ring"),
        ("SLOT_BYTES", SLOT_BYTES, "bytes of a submission slot and of a completion"),
        ("COMMAND_MAX_SLOTS", 1024, "slots of the longest command"),
    ),
    *_constants(
        "Command header flags",
        ("COMMAND_COMPLETE", 1 << 0, "write a completion once the command has been carried out"),
        ("COMMAND_WAIT", 1 << 1, "complete only when the stream has reached the command"),
    ),
    *_constants(
        "Completion flags",
        (
            "COMPLETION_ASYNC_ERROR",
            1 << 0,
            "the status is that of an earlier, asynchronous command",
        ),
    ),
    *_constants(
        "Channel states (vgpu_channel_control.state)",
        ("CHANNEL_CLOSED", 0, "no worker"),
        ("CHANNEL_READY", 1, "a worker drains the ring"),
        ("CHANNEL_FAILED", 2, "dead for good; vgpu_channel_control.error says why"),
    ),
    *_constants(
        "Reserved handles",
        ("STREAM_LEGACY", 0, "the legacy default stream"),
        ("STREAM_FIRST", 16, "handles below this are never given out"),
    ),
    *_constants(
        "Memory registration",
        ("REGISTER_READ", 1 << 0, "the device may read the memory"),
        ("REGISTER_WRITE", 1 << 1, "the device may write the memory"),
        ("SCATTER_ENTRIES", 255, "entries of one scatter block"),
        ("REGISTER_MAX_EXTENTS", 32768, "extents of one registration, and of one channel"),
        ("REGISTRATION_MAX", 4096, "registration ids are 1 to this, chosen by the guest"),
    ),
    *_constants(
        "Module images",
        ("IMAGE_PTX", 1, "PTX text"),
        ("IMAGE_CUBIN", 2, "an ELF cubin"),
    ),
    *_constants(
        "Device attributes",
        ("ATTRIBUTE_COUNT", 512, "entries of vgpu_device_info.attributes"),
        ("ATTRIBUTE_ABSENT", -0x80000000, "the device does not know this attribute"),
    ),
    *_constants(
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

STRUCTURES: Final = (
    HEADER,
    COMPLETION,
    CONTROL,
    GUEST_COUNTERS,
    HOST_COUNTERS,
    DEVICE_INFO,
    FUNCTION_INFO,
    PARAMETER_INFO,
    SCATTER_ENTRY,
    SCATTER_BLOCK,
)

_STREAM = u32("stream", "stream handle")
_PAD = u32("reserved", "0")

COMMANDS: Final = (
    Command(0x00, "NOP", "Does nothing; also fills the end of the ring."),
    # Contexts.
    Command(
        0x10,
        "CONTEXT_CREATE",
        "Makes a context; the header's context is 0.",
        (u32("context_flags", "CUctx_flags"), _PAD),
        results=("context",),
        cuda=("cuCtxCreate", "cuDevicePrimaryCtxRetain"),
    ),
    Command(
        0x11,
        "CONTEXT_DESTROY",
        "Destroys the header's context and all it holds.",
        cuda=("cuCtxDestroy", "cuDevicePrimaryCtxRelease", "cuDevicePrimaryCtxReset"),
    ),
    Command(
        0x12,
        "CONTEXT_SYNCHRONIZE",
        "Completes when all earlier work of the context is done.",
        cuda=("cuCtxSynchronize",),
    ),
    Command(
        0x13,
        "CONTEXT_SET_LIMIT",
        "Sets a resource limit.",
        (u32("limit", "CUlimit"), _PAD, u64("value", "new value")),
        cuda=("cuCtxSetLimit",),
    ),
    Command(
        0x14,
        "CONTEXT_GET_LIMIT",
        "Reads a resource limit.",
        (u32("limit", "CUlimit"), _PAD),
        results=("value",),
        cuda=("cuCtxGetLimit",),
    ),
    # Memory.
    Command(
        0x20,
        "MEMORY_ALLOCATE",
        "Allocates device memory.",
        (u64("size", "bytes, more than 0"),),
        results=("device_ptr",),
        cuda=("cuMemAlloc", "cuMemAllocPitch"),
    ),
    Command(
        0x21,
        "MEMORY_FREE",
        "Frees device memory, once all earlier work is done.",
        (u64("device_ptr", "start of an allocation"),),
        cuda=("cuMemFree",),
    ),
    Command(
        0x22,
        "MEMORY_GET_INFO",
        "Free and total device memory.",
        results=("free", "total"),
        cuda=("cuMemGetInfo",),
    ),
    # Copies.
    Command(
        0x30,
        "COPY_HOST_TO_DEVICE",
        "Copies registered guest memory to device memory.",
        (
            u64("device_ptr", "destination"),
            u64("offset", "into the registration, bytes"),
            u64("size", "bytes"),
            u32("registration", "registration id"),
            _STREAM,
        ),
        cuda=("cuMemcpyHtoD", "cuMemcpyHtoDAsync", "cuMemcpy", "cuMemcpyAsync"),
    ),
    Command(
        0x31,
        "COPY_DEVICE_TO_HOST",
        "Copies device memory to registered guest memory.",
        (
            u64("device_ptr", "source"),
            u64("offset", "into the registration, bytes"),
            u64("size", "bytes"),
            u32("registration", "registration id"),
            _STREAM,
        ),
        cuda=("cuMemcpyDtoH", "cuMemcpyDtoHAsync", "cuMemcpy", "cuMemcpyAsync"),
    ),
    Command(
        0x32,
        "COPY_DEVICE_TO_DEVICE",
        "Copies within device memory.",
        (
            u64("destination", "device pointer"),
            u64("source", "device pointer"),
            u64("size", "bytes"),
            _STREAM,
            _PAD,
        ),
        cuda=("cuMemcpyDtoD", "cuMemcpyDtoDAsync", "cuMemcpyPeer", "cuMemcpyPeerAsync"),
    ),
    Command(
        0x33,
        "COPY_INLINE",
        "Copies the bytes that follow to device memory.",
        (u64("device_ptr", "destination"), _STREAM, u32("tail_bytes", "bytes to copy")),
        tail="the bytes",
        cuda=("cuMemcpyHtoD", "cuMemcpyHtoDAsync"),
    ),
    Command(
        0x34,
        "COPY_2D",
        "Copies a rectangle between device and registered memory.",
        (
            u64("destination", "device pointer, or offset into the registration"),
            u64("destination_pitch", "bytes from row to row"),
            u64("source", "device pointer, or offset into the registration"),
            u64("source_pitch", "bytes from row to row"),
            u64("width", "bytes of a row"),
            u64("height", "rows"),
            u32("destination_registration", "registration id, 0 for device memory"),
            u32("source_registration", "registration id, 0 for device memory"),
            _STREAM,
            _PAD,
        ),
        cuda=("cuMemcpy2D", "cuMemcpy2DAsync", "cuMemcpy2DUnaligned"),
    ),
    Command(
        0x35,
        "MEMSET",
        "Fills device memory.",
        (
            u64("device_ptr", "destination"),
            u64("count", "elements"),
            u32("value", "element"),
            u32("element_bytes", "1, 2 or 4"),
            _STREAM,
            _PAD,
        ),
        cuda=(
            "cuMemsetD8",
            "cuMemsetD16",
            "cuMemsetD32",
            "cuMemsetD8Async",
            "cuMemsetD16Async",
            "cuMemsetD32Async",
        ),
    ),
    Command(
        0x36,
        "MEMSET_2D",
        "Fills a rectangle of device memory.",
        (
            u64("device_ptr", "destination"),
            u64("pitch", "bytes from row to row"),
            u64("width", "elements of a row"),
            u64("height", "rows"),
            u32("value", "element"),
            u32("element_bytes", "1, 2 or 4"),
            _STREAM,
            _PAD,
        ),
        cuda=(
            "cuMemsetD2D8",
            "cuMemsetD2D16",
            "cuMemsetD2D32",
            "cuMemsetD2D8Async",
            "cuMemsetD2D16Async",
            "cuMemsetD2D32Async",
        ),
    ),
    # Modules and functions.
    Command(
        0x40,
        "MODULE_LOAD",
        "Loads a module image from registered memory.",
        (
            u64("offset", "of the image in its registration"),
            u64("size", "of the image in bytes"),
            u64("log_offset", "of the log buffer in its registration"),
            u32("registration", "registration id of the image"),
            u32("log_registration", "registration id of the log buffer, 0 for none"),
            u32("log_size", "of the log buffer in bytes"),
            u32("image_kind", "VGPU_IMAGE_*"),
        ),
        results=("module", "log_bytes"),
        cuda=("cuModuleLoad", "cuModuleLoadData", "cuModuleLoadDataEx", "cuModuleLoadFatBinary"),
    ),
    Command(
        0x41,
        "MODULE_UNLOAD",
        "Unloads a module.",
        (u32("module", "module handle"), _PAD),
        cuda=("cuModuleUnload",),
    ),
    Command(
        0x42,
        "MODULE_GET_FUNCTION",
        "Finds a kernel; replies with struct vgpu_function_info.",
        (
            u64("reply_offset", "of the reply in its registration"),
            u32("reply_registration", "registration id of the reply"),
            u32("reply_size", "room for the reply in bytes"),
            u32("module", "module handle"),
            u32("tail_bytes", "length of the name"),
        ),
        tail="the name, without NUL",
        results=("function", "reply_bytes"),
        cuda=("cuModuleGetFunction",),
    ),
    Command(
        0x43,
        "MODULE_GET_GLOBAL",
        "Finds a global variable.",
        (u32("module", "module handle"), u32("tail_bytes", "length of the name")),
        tail="the name, without NUL",
        results=("device_ptr", "size"),
        cuda=("cuModuleGetGlobal",),
    ),
    Command(
        0x44,
        "FUNCTION_SET_ATTRIBUTE",
        "Sets an attribute of a kernel.",
        (
            u32("function", "function handle"),
            s32("attribute", "CUfunction_attribute"),
            s32("value", "new value"),
            _PAD,
        ),
        cuda=("cuFuncSetAttribute",),
    ),
    Command(
        0x45,
        "FUNCTION_GET_ATTRIBUTE",
        "Reads an attribute of a kernel.",
        (u32("function", "function handle"), s32("attribute", "CUfunction_attribute")),
        results=("value",),
        cuda=("cuFuncGetAttribute",),
    ),
    Command(
        0x46,
        "FUNCTION_OCCUPANCY",
        "Blocks of a kernel that one multiprocessor holds at a time.",
        (
            u64("shared_bytes", "dynamic shared memory of a block"),
            u32("function", "function handle"),
            u32("block_threads", "threads of a block"),
            u32("occupancy_flags", "CUoccupancy_flags"),
            _PAD,
        ),
        results=("blocks",),
        cuda=(
            "cuOccupancyMaxActiveBlocksPerMultiprocessor",
            "cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags",
            "cuOccupancyMaxPotentialBlockSize",
            "cuOccupancyMaxPotentialBlockSizeWithFlags",
        ),
    ),
    Command(
        0x47,
        "FUNCTION_AVAILABLE_SHARED",
        "Dynamic shared memory left to a block.",
        (
            u32("function", "function handle"),
            u32("blocks", "blocks on a multiprocessor"),
            u32("block_threads", "threads of a block"),
            _PAD,
        ),
        results=("bytes",),
        cuda=("cuOccupancyAvailableDynamicSMemPerBlock",),
    ),
    # Kernels.
    Command(
        0x50,
        "LAUNCH_KERNEL",
        "Launches a kernel.",
        (
            u32("function", "function handle"),
            u32("grid", "blocks in x, y, z", 3),
            u32("block", "threads in x, y, z", 3),
            u32("shared_bytes", "dynamic shared memory"),
            _STREAM,
            u32("tail_bytes", "bytes of the packed parameters"),
        ),
        tail="the packed parameters",
        cuda=("cuLaunchKernel", "cuLaunchKernelEx"),
    ),
    # Streams.
    Command(
        0x60,
        "STREAM_CREATE",
        "Makes a stream.",
        (u32("stream_flags", "CUstream_flags"), s32("priority", "as the API has it")),
        results=("stream",),
        cuda=("cuStreamCreate", "cuStreamCreateWithPriority"),
    ),
    Command(
        0x61,
        "STREAM_DESTROY",
        "Destroys a stream once its work is done.",
        (_STREAM, _PAD),
        cuda=("cuStreamDestroy",),
    ),
    Command(
        0x62,
        "STREAM_SYNCHRONIZE",
        "Completes when all earlier work of the stream is done.",
        (_STREAM, _PAD),
        cuda=("cuStreamSynchronize",),
    ),
    Command(
        0x63, "STREAM_QUERY", "Succeeds, or is not ready.", (_STREAM, _PAD), cuda=("cuStreamQuery",)
    ),
    Command(
        0x64,
        "STREAM_WAIT_EVENT",
        "Later work of the stream waits for the event.",
        (_STREAM, u32("event", "event handle"), u32("wait_flags", "CUevent_wait_flags"), _PAD),
        cuda=("cuStreamWaitEvent",),
    ),
    # Events.
    Command(
        0x68,
        "EVENT_CREATE",
        "Makes an event.",
        (u32("event_flags", "CUevent_flags"), _PAD),
        results=("event",),
        cuda=("cuEventCreate",),
    ),
    Command(
        0x69,
        "EVENT_DESTROY",
        "Destroys an event.",
        (u32("event", "event handle"), _PAD),
        cuda=("cuEventDestroy",),
    ),
    Command(
        0x6A,
        "EVENT_RECORD",
        "Records the stream's position.",
        (u32("event", "event handle"), _STREAM),
        cuda=("cuEventRecord", "cuEventRecordWithFlags"),
    ),
    Command(
        0x6B,
        "EVENT_QUERY",
        "Succeeds, or is not ready.",
        (u32("event", "event handle"), _PAD),
        cuda=("cuEventQuery",),
    ),
    Command(
        0x6C,
        "EVENT_SYNCHRONIZE",
        "Completes when the recorded position is reached.",
        (u32("event", "event handle"), _PAD),
        cuda=("cuEventSynchronize",),
    ),
    Command(
        0x6D,
        "EVENT_ELAPSED_TIME",
        "Time between two recorded events.",
        (u32("start", "event handle"), u32("end", "event handle")),
        results=("milliseconds_f32_bits",),
        cuda=("cuEventElapsedTime",),
    ),
    # Admin channel.
    Command(
        0x100,
        "CHANNEL_CREATE",
        "Starts a worker for a channel.",
        (
            u32("channel", "1 to VGPU_CHANNEL_COUNT - 1"),
            u32("vector", "its MSI-X vector"),
            u32("pid", "process of the guest, for people to read"),
            _PAD,
            u8("name", "its name, NUL-padded", 16),
        ),
        admin=True,
    ),
    Command(
        0x101,
        "CHANNEL_DESTROY",
        "Ends a channel; complete once nothing of it runs.",
        (u32("channel", "channel number"), _PAD),
        admin=True,
    ),
    Command(
        0x102,
        "MEMORY_REGISTER",
        "Gives a channel access to guest memory.",
        (
            u64("list_iova", "of the first scatter block, 4096-byte aligned"),
            u64("size", "bytes, the sum of the extents"),
            u32("channel", "channel number"),
            u32("registration", "id chosen by the guest"),
            u32("access", "VGPU_REGISTER_*"),
            u32("extents", "entries of the whole list"),
        ),
        admin=True,
    ),
    Command(
        0x103,
        "MEMORY_UNREGISTER",
        "Takes it away; complete once no copy uses it.",
        (u32("channel", "channel number"), u32("registration", "registration id")),
        admin=True,
    ),
)
