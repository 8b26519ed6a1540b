"""Attacks by commands: sizes and pointers without sense, hostile images, kernels that misbehave."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from vgpu_stub.abi import generated as abi
from vgpu_stub.abi.generated import Opcode
from vgpu_stub.villain.guest.kernels import PRINTING_PTX, PTX
from vgpu_stub.villain.guest.scene import Scene, expect
from vgpu_stub.villain.guest.tenant import DATA_BYTES, REGISTRATION, Tenant
from vgpu_stub.villain.registry import Attack, Harm, Stage, add, attack

_SECTION: Final = "commands.md"
_OK, _INVALID_VALUE, _OUT_OF_MEMORY = 0, 1, 2
_INVALID_HANDLE, _NOT_FOUND, _NOT_SUPPORTED = 400, 500, 801
_ILLEGAL_ADDRESS, _LAUNCH_TIMEOUT, _LAUNCH_FAILED, _ILLEGAL_INSTRUCTION = 700, 702, 719, 715
_OUT_OF_RESOURCES, _COOPERATIVE_TOO_LARGE = 701, 720
_ASSERT: Final = 710
#: What an image that is none may be called.
_BAD_IMAGES: Final = (1, 2, 200, 209, 218, 222, 223, 300)
_WILD: Final = (_INVALID_VALUE, _ILLEGAL_ADDRESS)
_MISALIGNED: Final = 716
_ONES: Final = 0xFFFF_FFFF
_END: Final = 1 << 64
_POINTERS: Final = (0, 1, 4096, 0x7FFF_FFFF_F000, 0x5555_5555_5000, 1 << 47, _END - 4096, _END - 1)


@contextlib.contextmanager
def _sacrifice(victim: Tenant) -> Iterator[int]:
    """A context that may be broken; the tenant's own must not notice."""
    context, *_ = victim.call(Opcode.CONTEXT_CREATE, 0, 0, context=0)
    yield context
    victim.attempt(Opcode.CONTEXT_DESTROY, context=context)
    expect("a command without context", victim.attempt(Opcode.NOP, context=0)[0], _OK)


_Call = tuple[int, Sequence[int | bytes], bytes]


def _each(
    id: str,
    rule: str,
    allowed: Sequence[int],
    calls: Callable[[Tenant], Iterator[_Call]],
    *,
    covers: Sequence[str] = ("3.18",),
    sacrifice: bool = False,
) -> None:
    """Enter an attack all of whose commands must end with one of these CUresults."""

    def run(scene: Scene) -> None:
        victim = scene.victim
        for opcode, fields, tail in calls(victim):
            # In a context that it may break: some errors are sticky.
            with _sacrifice(victim) if sacrifice else contextlib.nullcontext() as context:
                status, _ = victim.attempt(opcode, *fields, tail=tail, context=context)
                if not status:
                    status, _ = victim.attempt(Opcode.CONTEXT_SYNCHRONIZE, context=context)
            expect(f"{abi.COMMANDS[opcode].name}{tuple(fields)}", status, *allowed)

    add(
        Attack(
            f"commands.{id}",
            _SECTION,
            rule,
            "CUresult " + " or ".join(map(str, allowed)),
            tuple(covers),
            Stage.CHANNEL,
            Harm.NOTHING,
            15.0,
            run,
        )
    )


# Memory.

_each(
    "memory-allocate.nothing",
    "An allocation has more than 0 bytes.",
    [_INVALID_VALUE],
    lambda _: iter([(Opcode.MEMORY_ALLOCATE, (0,), b"")]),
)
_each(
    "memory-allocate.too-much",
    "A channel allocates what the device has.",
    [_OUT_OF_MEMORY],
    lambda _: (
        (Opcode.MEMORY_ALLOCATE, (size,), b"")
        for size in (1 << 30, 1 << 40, 1 << 63, _END - 4096, _END - 1)
    ),
)


@attack(
    "commands.memory-allocate.all",
    _SECTION,
    "A channel that has taken all memory is told so, and harms nobody.",
    "OUT_OF_MEMORY in the end; all of it can be freed and taken again",
    covers=["3.18"],
)
def _allocate_all(scene: Scene) -> None:
    victim, taken = scene.victim, []
    for _ in range(2):
        while True:
            status, results = victim.attempt(Opcode.MEMORY_ALLOCATE, 1 << 23)
            if status:
                break
            taken.append(results[0])
            expect("fewer than 64 times 8 MiB", len(taken) < 64, True)
        expect("the end", status, _OUT_OF_MEMORY)
        scene.sibling.check()
        for pointer in taken:
            victim.call(Opcode.MEMORY_FREE, pointer)
        expect("as many again", len(taken) > 8, True)
        taken.clear()


_each(
    "memory-free.not-an-allocation",
    "MEMORY_FREE takes the start of an allocation.",
    [_INVALID_VALUE],
    lambda victim: (
        (Opcode.MEMORY_FREE, (pointer,), b"") for pointer in (*_POINTERS, victim.pointer + 256)
    ),
)


@attack(
    "commands.memory-free.twice",
    _SECTION,
    "MEMORY_FREE takes the start of an allocation.",
    "INVALID_VALUE for the second time",
    covers=["3.18"],
)
def _free_twice(scene: Scene) -> None:
    victim = scene.victim
    pointer, *_ = victim.call(Opcode.MEMORY_ALLOCATE, 4096)
    victim.call(Opcode.MEMORY_FREE, pointer)
    expect("again", victim.attempt(Opcode.MEMORY_FREE, pointer)[0], _INVALID_VALUE)
    status, _ = victim.attempt(Opcode.COPY_INLINE, pointer, 0, 4, tail=b"free")
    expect("a copy to it", status, *_WILD)


def _wild_copies(victim: Tenant) -> Iterator[_Call]:
    good = victim.pointer
    for pointer in (*_POINTERS, good + (1 << 20), good - 4096):
        yield Opcode.COPY_HOST_TO_DEVICE, (pointer, 0, 64, REGISTRATION, 0), b""
        yield Opcode.COPY_DEVICE_TO_HOST, (pointer, 0, 64, REGISTRATION, 0), b""
        yield Opcode.COPY_DEVICE_TO_DEVICE, (pointer, good, 64, 0, 0), b""
        yield Opcode.COPY_DEVICE_TO_DEVICE, (good, pointer, 64, 0, 0), b""
        yield Opcode.COPY_INLINE, (pointer, 0, 8), b"attacked"
        yield Opcode.MEMSET, (pointer, 64, 0, 1, 0, 0), b""


_each("copy.wild-pointers", "Device pointers lie in allocations.", _WILD, _wild_copies)


def _long_copies(victim: Tenant) -> Iterator[_Call]:
    good = victim.pointer
    for size in (1 << 20, 1 << 40, _END - good, _END - 1):
        yield Opcode.COPY_DEVICE_TO_DEVICE, (good, good + 64, size, 0, 0), b""
        yield Opcode.MEMSET, (good, size, 0, 1, 0, 0), b""
    for count in (1 << 62, (1 << 62) + 1, 1 << 63):
        yield Opcode.MEMSET, (good, count, 0, 4, 0, 0), b""


_each("copy.beyond-the-allocation", "Copies stay in their allocation.", _WILD, _long_copies)


def _rectangles(victim: Tenant) -> Iterator[_Call]:
    good = victim.pointer
    for pitch, width, height in (
        (64, 65, 2),
        (64, 64, 1 << 40),
        (1 << 63, 64, 3),
        (_END - 1, 64, 3),
        (64, _END - 1, 1),
        (1 << 40, 1 << 40, 2),
    ):
        fields = (good, pitch, good + 32768, pitch, width, height, 0, 0, 0, 0)
        yield Opcode.COPY_2D, fields, b""
        yield Opcode.MEMSET_2D, (good, pitch, width, height, 0, 1, 0, 0), b""


_each("copy.rectangles", "Rectangles stay in their allocation, whatever wraps.", _WILD, _rectangles)
_each(
    "memset.element-bytes",
    "Elements have 1, 2 or 4 bytes.",
    [_INVALID_VALUE],
    lambda victim: (
        (opcode, fields, b"")
        for size in (0, 3, 5, 8, _ONES)
        for opcode, fields in (
            (Opcode.MEMSET, (victim.pointer, 4, 0, size, 0, 0)),
            (Opcode.MEMSET_2D, (victim.pointer, 64, 4, 2, 0, size, 0, 0)),
        )
    ),
)


# Contexts.


@attack(
    "commands.context.flags-and-limits",
    _SECTION,
    "Unknown flags and limits are refused.",
    "INVALID_VALUE, or UNSUPPORTED_LIMIT",
    covers=["3.18"],
)
def _limits(scene: Scene) -> None:
    victim = scene.victim
    for flags in (0x8000_0000, _ONES):
        expect("context flags", victim.attempt(Opcode.CONTEXT_CREATE, flags, 0, context=0)[0], 1)
    for limit in (99, 0x8000_0000, _ONES):
        expect("a limit", victim.attempt(Opcode.CONTEXT_GET_LIMIT, limit, 0)[0], 215, 1)
        expect("a limit", victim.attempt(Opcode.CONTEXT_SET_LIMIT, limit, 0, 1)[0], 215, 1)
    for limit in range(4):
        status, _ = victim.attempt(Opcode.CONTEXT_SET_LIMIT, limit, 0, _END - 1)
        expect(f"limit {limit} of all ones", status, 0, 1, 2, 215)
        victim.attempt(Opcode.CONTEXT_SET_LIMIT, limit, 0, 1024)


@attack(
    "commands.context.many",
    _SECTION,
    "Contexts are made and destroyed at will.",
    "two hundred, each with a stream and an event; destroying them ends what is in them",
    covers=["3.16"],
)
def _many_contexts(scene: Scene) -> None:
    victim = scene.victim
    made = []
    for _ in range(200):
        context, *_ = victim.call(Opcode.CONTEXT_CREATE, 0, 0, context=0)
        victim.call(Opcode.STREAM_CREATE, 1, 0, context=context)
        victim.call(Opcode.EVENT_CREATE, 0, 0, context=context)
        made.append(context)
    for context in made:
        victim.call(Opcode.CONTEXT_DESTROY, context=context)
        expect("again", victim.attempt(Opcode.CONTEXT_DESTROY, context=context)[0], 201)


@attack(
    "commands.context.foreign-handles",
    _SECTION,
    "Handles are of the context in which they were made.",
    "INVALID_HANDLE in another one, for each kind",
    covers=["3.17"],
)
def _foreign_handles(scene: Scene) -> None:
    victim = scene.victim
    other, *_ = victim.call(Opcode.CONTEXT_CREATE, 0, 0, context=0)
    stream, *_ = victim.call(Opcode.STREAM_CREATE, 1, 0)
    event, *_ = victim.call(Opcode.EVENT_CREATE, 0, 0)
    module = victim.load()
    function = victim.function("add", module)
    graph = victim.empty_graph()
    attempts: list[tuple[int, tuple[int, ...]]] = [
        (Opcode.STREAM_SYNCHRONIZE, (stream, 0)),
        (Opcode.STREAM_DESTROY, (stream, 0)),
        (Opcode.EVENT_QUERY, (event, 0)),
        (Opcode.EVENT_DESTROY, (event, 0)),
        (Opcode.MODULE_UNLOAD, (module, 0)),
        (Opcode.FUNCTION_GET_ATTRIBUTE, (function, 0)),
        (Opcode.GRAPH_LAUNCH, (graph, 0)),
        (Opcode.GRAPH_DESTROY, (graph, 0)),
    ]
    for opcode, fields in attempts:
        status, _ = victim.attempt(opcode, *fields, context=other)
        expect(abi.COMMANDS[opcode].name, status, _INVALID_HANDLE)
    expect("a launch", victim.launch(function, bytes(12), context=other), _INVALID_HANDLE)
    victim.call(Opcode.CONTEXT_DESTROY, context=other)


# Modules.


def _image(id: str, rule: str, images: Callable[[Scene], Iterator[bytes]]) -> None:
    def run(scene: Scene) -> None:
        for image in images(scene):
            status, _ = scene.victim.try_load(image, timeout_s=12.0)
            expect(f"an image of {len(image)} bytes, {image[:24]!r}", status, *_BAD_IMAGES)

    add(
        Attack(
            f"commands.module-load.{id}",
            _SECTION,
            rule,
            "an error of MODULE_LOAD; the worker lives",
            ("3.19",),
            Stage.CHANNEL,
            Harm.NOTHING,
            20.0,
            run,
        )
    )


_HEAD: Final = b".version 6.0\n.target sm_50\n.address_size 64\n"
_NO_IMAGE: Final = "An image is PTX, a cubin or a fat binary."
_image("zeros", _NO_IMAGE, lambda _: iter([bytes(1), bytes(64), bytes(4096)]))
_image(
    "garbage",
    _NO_IMAGE,
    lambda scene: (scene.random.randbytes(size) for size in (1, 7, 64, 500, 4096, 30000)),
)
_image("cut-off", "PTX ends where its text ends.", lambda _: (PTX[:n] for n in range(60, 900, 60)))
_image(
    "elf",
    "A cubin is an ELF file for the device.",
    lambda scene: (
        b"\x7fELF" + rest for rest in (b"", bytes(60), b"\xff" * 500, scene.random.randbytes(2000))
    ),
)
_image(
    "fat-binary",
    "The sizes in a fat binary stay in it.",
    lambda scene: (
        struct.pack("<IHHQ", 0xBA55ED50, 1, 16, size) + rest
        for size in (0, 64, _END - 1, 1 << 40)
        for rest in (b"", b"\xff" * 80, bytes(80), scene.random.randbytes(200))
    ),
)
_image(
    "fat-binary-bomb",
    "An image that claims to unpack to more than there is is refused.",
    lambda _: (
        struct.pack("<IHHQ", 0xBA55ED50, 1, 16, 64 + 32)
        + struct.pack("<HHIQIIHHIIIQQQ", 1, 0x101, 64, 32, 32, 0, 0, 6, 50, 0, 0, flags, 0, size)
        + b"\x1f"
        + bytes(31)
        for flags in (0x2000, 0x8000)
        for size in (1 << 31, 1 << 40, _END - 1)
    ),
)
_image(
    "nested",
    "PTX may nest braces and parentheses as deep as it likes, and be refused.",
    lambda _: iter(
        [
            _HEAD + b".visible .entry f() " + b"{" * 12000,
            _HEAD + b".visible .entry f() { .reg .b32 r; mov.b32 r, " + b"(" * 12000,
        ]
    ),
)


@attack(
    "commands.module-load.huge-variables",
    _SECTION,
    "Variables take device memory, which is limited.",
    "variables of many TiB are refused, at the latest when their kernel is asked for",
    covers=["3.19"],
)
def _huge_variables(scene: Scene) -> None:
    victim = scene.victim
    for text in (
        b".global .b8 big[9223372036854775807];",
        b".global .b8 more[1099511627776];",
        b".global .u64 wide[4611686018427387904];",
    ):
        image = _HEAD + text + b"\n.visible .entry f() { ret; }\n"
        status, (module, *_) = victim.try_load(image)
        if not status:
            fields = (0, REGISTRATION, 4096, module, 1)
            status, _ = victim.attempt(Opcode.MODULE_GET_FUNCTION, *fields, tail=b"f")
        expect(text.decode(), status, *_BAD_IMAGES)


@attack(
    "commands.module-load.huge-registers",
    _SECTION,
    "A register declaration costs what the registers that are used cost.",
    "two thousand million declared registers do not fill the host's memory",
    covers=["3.19"],
    deadline_s=20.0,
)
def _huge_registers(scene: Scene) -> None:
    text = _HEAD + b".visible .entry f() { .reg .b32 %r<2000000000>; mov.u32 %r7, 1; ret; }\n"
    status, (module, *_) = scene.victim.try_load(text, timeout_s=12.0)
    expect("loading", status, 0, *_BAD_IMAGES)
    if not status:
        fields = (DATA_BYTES, REGISTRATION, 4096, module, 1)
        status, _ = scene.victim.attempt(
            Opcode.MODULE_GET_FUNCTION, *fields, tail=b"f", timeout_s=12.0
        )
        expect("finding it", status, 0, *_BAD_IMAGES)


@attack(
    "commands.module-load.claimed-size",
    _SECTION,
    "An image has more than 0 bytes, and lies in registered memory.",
    "INVALID_VALUE for other sizes, and for a log that does not fit",
    covers=["3.19", "4.10"],
)
def _claimed_size(scene: Scene) -> None:
    victim = scene.victim
    for size in (0, victim.memory.size + 1, 1 << 31, _END - 1):
        fields = (0, size, 0, REGISTRATION, 0, 0, abi.IMAGE_PTX)
        expect(f"{size} bytes", victim.attempt(Opcode.MODULE_LOAD, *fields)[0], _INVALID_VALUE)
    for log in ((_END - 8, 64), (victim.memory.size, 1), (0, _ONES)):
        fields = (0, 64, log[0], REGISTRATION, REGISTRATION, log[1], abi.IMAGE_PTX)
        expect("a log", victim.attempt(Opcode.MODULE_LOAD, *fields)[0], _INVALID_VALUE)


@attack(
    "commands.module-link.parts",
    _SECTION,
    "Parts of MODULE_LINK lie in the memory that it names.",
    "an error for parts that lie about their sizes; the image is written nowhere",
    covers=["3.19"],
)
def _link(scene: Scene) -> None:
    victim = scene.victim
    for kind, name, size in ((1, 0, _END - 1), (1, _ONES, 8), (99, 4, 8), (2, 0, 1 << 40)):
        part = abi.LINK_PART.pack(kind, name, size) + b"\xff" * 64
        victim.memory.memory[DATA_BYTES : DATA_BYTES + len(part)] = part
        fields = (DATA_BYTES, len(part), 0, 4096, 4096, REGISTRATION, 64)
        status, _ = victim.attempt(Opcode.MODULE_LINK, *fields)
        expect(f"a part of kind {kind}, {size} bytes", status, *_BAD_IMAGES)


@attack(
    "commands.module.names",
    _SECTION,
    "A name is text of a kernel or variable of the module.",
    "NOT_FOUND for any other bytes",
    covers=["3.17"],
)
def _names(scene: Scene) -> None:
    victim = scene.victim
    module = victim.load()
    names = (b"", b"nothing", b"add\0", b"\xff\xfe", b"a" * 40000, b"../../../etc/passwd", b"%s%n")
    for name in names:
        status, _ = victim.attempt(
            Opcode.MODULE_GET_FUNCTION, 0, REGISTRATION, 4096, module, len(name), tail=name
        )
        expect(f"kernel {name[:20]!r}", status, _NOT_FOUND)
        status, _ = victim.attempt(Opcode.MODULE_GET_GLOBAL, module, len(name), tail=name)
        expect(f"variable {name[:20]!r}", status, _NOT_FOUND)
    for room in (0, 1, 47):
        status, _ = victim.attempt(
            Opcode.MODULE_GET_FUNCTION, 0, REGISTRATION, room, module, 3, tail=b"add"
        )
        expect(f"{room} bytes of room", status, _INVALID_VALUE)


@attack(
    "commands.module.unloaded",
    _SECTION,
    "A kernel goes with its module.",
    "INVALID_HANDLE for both afterwards",
    covers=["3.17"],
)
def _unloaded(scene: Scene) -> None:
    victim = scene.victim
    module = victim.load()
    function = victim.function("add", module)
    victim.call(Opcode.MODULE_UNLOAD, module, 0)
    expect("unloading again", victim.attempt(Opcode.MODULE_UNLOAD, module, 0)[0], _INVALID_HANDLE)
    expect("a launch", victim.launch(function, bytes(12)), _INVALID_HANDLE)


@attack(
    "commands.function.attributes",
    _SECTION,
    "Unknown attributes, and values without sense, are refused.",
    "INVALID_VALUE",
    covers=["3.18"],
)
def _attributes(scene: Scene) -> None:
    victim = scene.victim
    function = victim.function("add", victim.load())
    for attribute in (-1, 99, 0x7FFF_FFFF, -0x8000_0000):
        status, _ = victim.attempt(Opcode.FUNCTION_GET_ATTRIBUTE, function, attribute)
        expect(f"reading attribute {attribute}", status, _INVALID_VALUE)
        status, _ = victim.attempt(Opcode.FUNCTION_SET_ATTRIBUTE, function, attribute, 1, 0)
        expect(f"setting attribute {attribute}", status, _INVALID_VALUE, _NOT_SUPPORTED)
    for value in (-1, 0x7FFF_FFFF, -0x8000_0000):
        status, _ = victim.attempt(Opcode.FUNCTION_SET_ATTRIBUTE, function, 8, value, 0)
        expect(f"{value} bytes of shared memory", status, _INVALID_VALUE)
    for threads in (0, _ONES):
        status, _ = victim.attempt(Opcode.FUNCTION_OCCUPANCY, 0, function, threads, 0, 0)
        expect(f"occupancy of {threads} threads", status, _INVALID_VALUE, _OK)
        status, _ = victim.attempt(Opcode.FUNCTION_AVAILABLE_SHARED, function, 1, threads, 0)
        expect(f"memory of {threads} threads", status, _INVALID_VALUE)


# Kernels.


def _shape(
    id: str, rule: str, allowed: Sequence[int], shapes: Sequence[tuple[tuple[int, int, int], ...]]
) -> None:
    def run(scene: Scene) -> None:
        victim = scene.victim
        function = victim.function("add", victim.load())
        parameters = struct.pack("<QI", victim.pointer, 0)
        for grid, block in shapes:
            status = victim.launch(function, parameters, grid, block)
            expect(f"a grid of {grid}, blocks of {block}", status, *allowed)

    add(
        Attack(
            f"commands.launch.{id}",
            _SECTION,
            rule,
            "CUresult " + " or ".join(map(str, allowed)),
            ("3.20",),
            Stage.CHANNEL,
            Harm.NOTHING,
            15.0,
            run,
        )
    )


_ONE: Final = (1, 1, 1)
_shape(
    "no-blocks",
    "A grid has blocks, a block has threads.",
    [_INVALID_VALUE],
    [((0, 1, 1), _ONE), ((1, 0, 1), _ONE), (_ONE, (0, 1, 1)), (_ONE, (1, 1, 0))],
)
_shape(
    "too-many-threads",
    "A block has at most 1024 threads.",
    [_INVALID_VALUE, _OUT_OF_RESOURCES],
    [(_ONE, (1025, 1, 1)), (_ONE, (32, 33, 1)), (_ONE, (_ONES, _ONES, _ONES)), (_ONE, (1, 1, 65))],
)
_shape(
    "too-many-blocks",
    "A grid has at most 2^31 - 1 blocks each way.",
    [_INVALID_VALUE],
    [((1 << 31, 1, 1), _ONE), ((1, 1 << 31, 1), _ONE), ((_ONES, _ONES, _ONES), _ONE)],
)


@attack(
    "commands.launch.parameters",
    _SECTION,
    "The packed parameters are as long as the kernel's.",
    "INVALID_VALUE for fewer or none",
    covers=["3.20"],
)
def _parameters(scene: Scene) -> None:
    victim = scene.victim
    function = victim.function("add", victim.load())
    for size in (0, 1, 8, 11):
        expect(f"{size} bytes", victim.launch(function, bytes(size)), _INVALID_VALUE)


@attack(
    "commands.launch.shared-memory",
    _SECTION,
    "A block has the shared memory that a multiprocessor has.",
    "INVALID_VALUE for more",
    covers=["3.20"],
)
def _shared_memory(scene: Scene) -> None:
    victim = scene.victim
    function = victim.function("add", victim.load())
    parameters = struct.pack("<QI", victim.pointer, 0)
    for size in (1 << 18, 1 << 31, _ONES):
        status = victim.launch(function, parameters, shared_bytes=size)
        expect(f"{size} bytes", status, _INVALID_VALUE, _OUT_OF_RESOURCES)


@attack(
    "commands.launch.cooperative-too-large",
    _SECTION,
    "The blocks of a cooperative launch run at the same time.",
    "COOPERATIVE_LAUNCH_TOO_LARGE for more than the device holds",
    covers=["3.20"],
)
def _cooperative(scene: Scene) -> None:
    victim = scene.victim
    function = victim.function("add", victim.load())
    parameters = struct.pack("<QI", victim.pointer, 0)
    for grid in ((1 << 30, 1, 1), (60000, 60000, 1)):
        status = victim.launch(function, parameters, grid, opcode=Opcode.LAUNCH_COOPERATIVE)
        expect(f"a grid of {grid}", status, _COOPERATIVE_TOO_LARGE)


def _fault(
    id: str,
    rule: str,
    kernel: str,
    allowed: Sequence[int],
    parameters: Callable[[Tenant], Sequence[bytes]],
) -> None:
    def run(scene: Scene) -> None:
        victim = scene.victim
        for packed in parameters(victim):
            with _sacrifice(victim) as context:
                function = victim.function(kernel, victim.load(PTX, context), context)
                status = victim.launch(function, packed, context=context, timeout_s=8.0)
                expect(f"{kernel} of {packed.hex()}", status, *allowed)
                again, _ = victim.attempt(Opcode.CONTEXT_SYNCHRONIZE, context=context)
                expect("the next command, as the error is sticky", again, status)

    add(
        Attack(
            f"commands.kernel.{id}",
            "3 Asynchronous errors",
            rule,
            "CUresult " + " or ".join(map(str, allowed)) + ", sticky; other contexts go on",
            ("3.12", "3.21"),
            Stage.CHANNEL,
            Harm.NOTHING,
            25.0,
            run,
        )
    )


_ACCESS: Final = "The software GPU checks every access of a kernel."
_ADDRESSES: Final = (0, 4096, 0x5555_5555_5000, 0x7FFF_FFFF_F000, 1 << 47, _END - 4096)
_fault(
    "writes-anywhere",
    _ACCESS,
    "store",
    [_ILLEGAL_ADDRESS],
    lambda _: [struct.pack("<Q", address) for address in _ADDRESSES],
)
_fault(
    "reads-anywhere",
    _ACCESS,
    "load",
    [_ILLEGAL_ADDRESS],
    lambda victim: [struct.pack("<QQ", address, victim.pointer) for address in _ADDRESSES],
)
_fault(
    "traps",
    "A kernel that traps fails.",
    "stop",
    [_LAUNCH_FAILED, _ILLEGAL_INSTRUCTION],
    lambda _: [b""],
)
_fault(
    "spins",
    "The watchdog ends kernels that run too long.",
    "spin",
    [_LAUNCH_TIMEOUT],
    lambda victim: [struct.pack("<Q", victim.pointer + 60000)],
)


@attack(
    "commands.kernel.runs-for-ever-in-many-blocks",
    _SECTION,
    "The watchdog ends kernels that run too long.",
    "LAUNCH_TIMEOUT for two thousand million blocks",
    covers=["3.21"],
    deadline_s=20.0,
)
def _endless_grid(scene: Scene) -> None:
    victim = scene.victim
    with _sacrifice(victim) as context:
        function = victim.function("add", victim.load(PTX, context), context)
        parameters = struct.pack("<QI", victim.pointer, 0)
        grid = ((1 << 31) - 1, 1, 1)
        status = victim.launch(function, parameters, grid, context=context, timeout_s=10.0)
        expect("the grid", status, _LAUNCH_TIMEOUT)


@attack(
    "commands.kernel.prints-floods",
    _SECTION,
    "What kernels print is kept in a buffer of limited size.",
    "a million lines fill no memory, and can be read in any portions",
    covers=["3.22"],
    deadline_s=20.0,
)
def _print_flood(scene: Scene) -> None:
    victim = scene.victim
    for _ in range(4):
        with _sacrifice(victim) as context:
            function = victim.function("talk", victim.load(PRINTING_PTX, context), context)
            lines = struct.pack("<I", 1_000_000)
            status = victim.launch(function, lines, (16, 1, 1), context=context, timeout_s=10.0)
            expect("the kernel", status, _OK, _LAUNCH_TIMEOUT)
    total = 0
    for room in (0, 1, 17, 4096, 32768, 65536):
        status, (count, *_) = victim.attempt(Opcode.OUTPUT_READ, 0, REGISTRATION, room)
        expect("reading", (status, count <= room), (_OK, True))
        total += count
    expect("some of it was read", total > 10_000, True)


# Streams, events, graphs.


@attack(
    "commands.stream.default",
    _SECTION,
    "The default stream cannot be destroyed.",
    "INVALID_HANDLE",
    covers=["3.17"],
)
def _default_stream(scene: Scene) -> None:
    for _ in range(3):
        expect("it", scene.victim.attempt(Opcode.STREAM_DESTROY, 0, 0)[0], _INVALID_HANDLE)


@attack(
    "commands.stream.destroyed-with-work",
    _SECTION,
    "A stream is destroyed once its work is done.",
    "its work is done, and its handle is gone",
    covers=["3.17"],
)
def _stream_with_work(scene: Scene) -> None:
    victim, channel = scene.victim, scene.victim.channel
    for _ in range(20):
        stream, *_ = victim.call(Opcode.STREAM_CREATE, 1, 0)
        fields = (victim.pointer, 4096, 7, 1, stream, 0)
        for _ in range(20):
            channel.submit(Opcode.MEMSET, *fields, context=victim.context, flags=0)
        victim.call(Opcode.STREAM_DESTROY, stream, 0)
        status, _ = victim.attempt(Opcode.STREAM_QUERY, stream, 0)
        expect("its handle", status, _INVALID_HANDLE)


@attack(
    "commands.event.misused",
    _SECTION,
    "Events have times where they were recorded with timing.",
    "INVALID_HANDLE for others, INVALID_VALUE for unknown flags",
    covers=["3.18"],
)
def _events(scene: Scene) -> None:
    victim = scene.victim
    one, *_ = victim.call(Opcode.EVENT_CREATE, 0, 0)
    other, *_ = victim.call(Opcode.EVENT_CREATE, 2, 0)
    for start, end in ((one, one), (one, other), (other, one)):
        status, _ = victim.attempt(Opcode.EVENT_ELAPSED_TIME, start, end)
        expect("a time that was not taken", status, _INVALID_HANDLE, 600)
    for flags in (0x80, 0x8000_0000, _ONES):
        expect("flags", victim.attempt(Opcode.EVENT_CREATE, flags, 0)[0], _INVALID_VALUE)
        expect("flags", victim.attempt(Opcode.STREAM_CREATE, flags, 0)[0], _INVALID_VALUE)
    for event in (one, other):
        victim.call(Opcode.EVENT_DESTROY, event, 0)
        status, _ = victim.attempt(Opcode.EVENT_RECORD, event, 0)
        expect("a destroyed event", status, _INVALID_HANDLE)


_NODE: Final = "Nodes are well-formed, in an order that can run, and lie in registered memory."


@attack(
    "commands.graph.malformed",
    "struct vgpu_graph_node",
    _NODE,
    "INVALID_VALUE for each way in which they are not",
    covers=["3.23"],
)
def _malformed_graph(scene: Scene) -> None:
    victim = scene.victim
    nop = abi.COMMAND_HEADER.pack(Opcode.NOP, 1, 0, 0, 0)
    good = abi.GRAPH_NODE.pack(0, len(nop)) + nop
    wrong = [
        (abi.GRAPH_NODE.pack(0, 0), 1),
        (abi.GRAPH_NODE.pack(0, 15) + nop, 1),
        (abi.GRAPH_NODE.pack(0, _ONES) + nop, 1),
        (abi.GRAPH_NODE.pack(_ONES, len(nop)) + nop, 1),
        (abi.GRAPH_NODE.pack(1, len(nop)) + struct.pack("<II", 0, 0) + nop, 1),
        (good + abi.GRAPH_NODE.pack(1, len(nop)) + struct.pack("<II", 1, 0) + nop, 2),
        (good + abi.GRAPH_NODE.pack(1, len(nop)) + struct.pack("<II", _ONES, 0) + nop, 2),
        (good, 2),
        (good, _ONES),
        (b"", 1),
    ]
    for description, nodes in wrong:
        victim.memory.memory[: len(description)] = description
        fields = (0, len(description), REGISTRATION, nodes)
        status, _ = victim.attempt(Opcode.GRAPH_INSTANTIATE, *fields)
        expect(f"{nodes} nodes in {description.hex()}", status, _INVALID_VALUE)


@attack(
    "commands.graph.forbidden-nodes",
    "struct vgpu_graph_node",
    "Commands that wait, take away, or are graphs themselves cannot be nodes.",
    "NOT_SUPPORTED for each of them, and for unknown ones",
    covers=["3.23"],
)
def _forbidden_nodes(scene: Scene) -> None:
    victim = scene.victim
    may_be = {
        Opcode.NOP,
        Opcode.COPY_HOST_TO_DEVICE,
        Opcode.COPY_DEVICE_TO_HOST,
        Opcode.COPY_DEVICE_TO_DEVICE,
        Opcode.COPY_2D,
        Opcode.MEMSET,
        Opcode.MEMSET_2D,
        Opcode.LAUNCH_KERNEL,
        Opcode.LAUNCH_COOPERATIVE,
        Opcode.STREAM_WAIT_EVENT,
        Opcode.EVENT_RECORD,
        Opcode.BLAS,
    }
    for opcode, layout in abi.COMMANDS.items():
        if opcode in may_be:
            continue
        size = victim.put_node(opcode, *layout.fields.unpack(bytes(layout.fields.size)))
        fields = (DATA_BYTES, size, REGISTRATION, 1)
        status, _ = victim.attempt(Opcode.GRAPH_INSTANTIATE, *fields)
        expect(f"a node {layout.name}", status, _NOT_SUPPORTED)


@attack(
    "commands.graph.hostile-nodes",
    "struct vgpu_graph_node",
    "A node is checked like the command that it is.",
    "wild pointers, unknown registrations and handles are refused when the graph is made",
    covers=["3.23", "4.10"],
)
def _hostile_nodes(scene: Scene) -> None:
    victim = scene.victim
    hostile: list[tuple[int, tuple[int, ...]]] = [
        (Opcode.COPY_HOST_TO_DEVICE, (victim.pointer, 0, 64, 9, 0)),
        (Opcode.COPY_HOST_TO_DEVICE, (victim.pointer, _END - 8, 64, REGISTRATION, 0)),
        (Opcode.COPY_DEVICE_TO_HOST, (victim.pointer, 0, 1 << 40, REGISTRATION, 0)),
        (Opcode.MEMSET, (victim.pointer, 16, 0, 3, 0, 0)),
        (Opcode.LAUNCH_KERNEL, (999, 1, 1, 1, 1, 1, 1, 0, 0, 0)),
        (Opcode.EVENT_RECORD, (999, 0)),
    ]
    for opcode, node in hostile:
        size = victim.put_node(opcode, *node)
        fields = (DATA_BYTES, size, REGISTRATION, 1)
        status, _ = victim.attempt(Opcode.GRAPH_INSTANTIATE, *fields)
        expect(f"{abi.COMMANDS[opcode].name}{node}", status, _INVALID_VALUE, _INVALID_HANDLE)


@attack(
    "commands.graph.destroyed",
    _SECTION,
    "A graph's handle goes with it.",
    "INVALID_HANDLE afterwards; a failed update leaves the graph as it was",
    covers=["3.17", "3.23"],
)
def _destroyed_graph(scene: Scene) -> None:
    victim = scene.victim
    graph = victim.empty_graph()
    victim.memory.memory[:16] = b"\xff" * 16
    fields = (0, 16, REGISTRATION, 1, graph, 0)
    expect("a bad update", victim.attempt(Opcode.GRAPH_UPDATE, *fields)[0], _INVALID_VALUE)
    expect("a launch", victim.attempt(Opcode.GRAPH_LAUNCH, graph, 0)[0], _OK)
    victim.call(Opcode.GRAPH_DESTROY, graph, 0)
    for opcode in (Opcode.GRAPH_LAUNCH, Opcode.GRAPH_UPLOAD, Opcode.GRAPH_DESTROY):
        status, _ = victim.attempt(opcode, graph, 0)
        expect(abi.COMMANDS[opcode].name, status, _INVALID_HANDLE)


# BLAS.


def _blas(victim: Tenant, **changes: int) -> _Call:
    """A small sgemm, with some fields changed."""
    fields = dict.fromkeys(abi.COMMANDS[Opcode.BLAS].field_names, 0)
    fields.update(routine=abi.BLAS_GEMM, compute_type=68, m=4, n=4, k=4, batch=1)
    fields.update(a=victim.pointer, b=victim.pointer, c=victim.pointer + 4096)
    fields.update(a_step=4, b_step=4, c_step=4)
    fields.update(changes)
    packed: list[int | bytes] = [
        struct.pack("<f", 1.0).ljust(16, b"\0") if name in ("alpha", "beta") else value
        for name, value in fields.items()
    ]
    return Opcode.BLAS, packed, b""


_BIG: Final = (1 << 62, (1 << 63) - 1, 1 << 40)
_each(
    "blas.negative",
    "Dimensions of BLAS are not negative.",
    [_INVALID_VALUE],
    lambda victim: (
        _blas(victim, **{name: value})
        for name in ("m", "n", "k", "batch")
        for value in (-1, -(1 << 63))
    ),
)
_each(
    "blas.absurd",
    "Matrices lie in allocations, whatever wraps.",
    _WILD,
    lambda victim: (
        _blas(victim, **{name: value}) for name in ("m", "n", "k", "batch") for value in _BIG
    ),
    sacrifice=True,
)
_each(
    "blas.absurd-steps",
    "Matrices lie in allocations, whatever wraps.",
    _WILD,
    lambda victim: (
        _blas(victim, batch=2, **{name: value})
        for name in ("a_step", "c_step", "a_stride", "c_stride")
        for value in (*_BIG, -(1 << 62))
    ),
    sacrifice=True,
)
_each(
    "blas.wild-pointers",
    "Matrices lie in allocations.",
    (*_WILD, _MISALIGNED),
    lambda victim: (
        _blas(victim, **{name: pointer}) for name in ("a", "b", "c") for pointer in _POINTERS
    ),
    sacrifice=True,
)
_each(
    "blas.unknown",
    "Routines, types and operations are those of the ABI.",
    [_INVALID_VALUE, _NOT_SUPPORTED],
    lambda victim: (
        _blas(victim, **{name: value})
        for name in ("routine", "a_type", "c_type", "a_operation", "compute_type")
        for value in (999, _ONES)
    ),
)
