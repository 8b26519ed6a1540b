"""Makes the commands of a CUDA program: handles mostly exist, and fields may not fit."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from vgpu_stub.abi import generated as abi
from vgpu_stub.abi.generated import Opcode
from vgpu_stub.fuzz.operations import Operation, Value
from vgpu_stub.fuzz.ring_operations import (
    TAIL_BYTES,
    Command,
    Put,
    PutNodes,
    PutParts,
    Register,
    SetWord,
    Skip,
    Step,
    WriteSlot,
    pack_nodes,
    pack_parts,
)
from vgpu_stub.fuzz.seeds import KERNELS, PROGRAMS
from vgpu_stub.fuzz.values import mutated_bytes, mutated_operation, number

#: Memory that the guest has registered: 1 to read and write, 2 to read, 3 to write.
REGISTERED_BYTES: Final = 256 << 10
#: Where images, names, nodes and replies lie in it.
_IMAGE: Final = 0
_PARTS: Final = 32 << 10
_NODES: Final = 64 << 10
_REPLY: Final = 96 << 10
_DATA: Final = 128 << 10

_CHANNEL_OPCODES: Final = tuple(
    opcode for opcode in abi.COMMANDS if opcode < abi.OPCODE_ADMIN_FIRST
)
_ROUTINES: Final = tuple(
    value
    for name, value in vars(abi).items()
    if name.startswith("BLAS_") and not name.startswith("BLAS_FLAG")
)
#: cudaDataType: R_32F, R_64F, R_16F, C_32F, C_64F, R_8I, R_32I, R_16BF.
_TYPES: Final = (0, 1, 2, 4, 5, 3, 10, 14)
#: cublasComputeType_t: 16F, 32F, 32F_FAST_TF32, 64F, 32I.
_COMPUTE_TYPES: Final = (64, 68, 77, 70, 72)
_CONTROL: Final = ("sq_tail", "sq_head", "cq_tail", "cq_head", "cq_waiting", "sq_sleeping", "state")


class RingGrammar:
    """A program that knows what it has made, mostly."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._contexts = 1
        #: Kernels looked up at the start, in the order of their handles.
        self._kernels: tuple[str, ...] = ()
        self._makers: list[tuple[int, Callable[[], list[Operation]]]] = [
            (10, self._allocate),
            (4, self._free),
            (12, self._copy),
            (4, self._inline),
            (6, self._copy_2d),
            (6, self._memset),
            (5, self._module),
            (5, self._function),
            (4, self._ask),
            (10, self._launch),
            (6, self._stream),
            (8, self._event),
            (6, self._graph),
            (3, self._blas),
            (3, self._context),
            (2, self._link),
            (3, self._anything),
        ]
        self._weights = [weight for weight, _ in self._makers]

    def sequence(self) -> list[Operation]:
        """From the first context to the end."""
        rng = self._rng
        found: list[Operation] = []
        if rng.random() < 0.96:
            found.append(Command(Opcode.CONTEXT_CREATE, (0, 0), context=0))
            found.append(Step())
        if rng.random() < 0.6:
            found += self._loaded()
        for _ in range(rng.randrange(4, 40)):
            choice = rng.random()
            if choice < 0.012:
                found.append(self._lie())
                continue
            if choice < 0.02:
                found.append(Skip(rng.choice((1, 100, 1023, 1024, 1025, 4095, 4096))))
                continue
            if choice < 0.05:
                found.append(Register(rng.choice((1, 2, 3, 4)), rng.choice((0, 1, 2, 3, 3, 3))))
                continue
            ((_, make),) = rng.choices(self._makers, self._weights)
            made = make()
            if rng.random() < 0.2:
                made[-1] = self._changed(made[-1])
            found += made
            if rng.random() < 0.8:
                found.append(Step())
        return found

    def _changed(self, operation: Operation) -> Operation:
        rng = self._rng
        if isinstance(operation, Command):
            choice = rng.random()
            if choice < 0.15:
                return replace(operation, flags=rng.choice((0, 2, 3, number(rng, 16))))
            if choice < 0.25:
                return replace(operation, context=rng.choice((0, 2, 3, number(rng, 16))))
            if choice < 0.28:
                return replace(operation, slots=number(rng, 16))
            if choice < 0.7 and operation.values:
                place = rng.randrange(len(operation.values))
                values = list(operation.values)
                values[place] = number(rng, 64)
                return replace(operation, values=tuple(values))
            if choice < 0.8:
                return replace(operation, values=operation.values[:-1])
        return mutated_operation(rng, operation)

    def _lie(self) -> Operation:
        rng = self._rng
        if rng.random() < 0.6:
            return SetWord(rng.choice(_CONTROL), number(rng, 64))
        offset = rng.choice((abi.SQ_OFFSET + 64 * rng.randrange(40), rng.randrange(abi.SQ_OFFSET)))
        return WriteSlot(offset, rng.randbytes(rng.choice((2, 8, 16))))

    # -- references ------------------------------------------------------------------------------

    def _one(self, kind: str, delta: int = 0) -> Value:
        if self._rng.random() < 0.03:
            return number(self._rng, 32)
        return (kind, self._rng.randrange(6), delta)

    def _memory(self) -> Value:
        return self._one("memory", self._rng.choice((0, 0, 0, 4, 256, -4, 1)))

    def _stream_handle(self) -> Value:
        return 0 if self._rng.random() < 0.7 else self._one("stream")

    def _size(self) -> int:
        return self._rng.choice((0, 1, 4, 64, 256, 4096, 65536, 100, 1 << 20))

    def _registration(self) -> int:
        return self._rng.choice((1, 1, 1, 1, 2, 3, 4))

    def _command(self, opcode: int, *values: Value, tail: tuple[Value, ...] = ()) -> Command:
        wait = abi.COMMAND_WAIT if self._rng.random() < 0.1 else 0
        return Command(
            int(opcode),
            values,
            tail,
            context=self._rng.randrange(1, self._contexts + 1),
            flags=abi.COMMAND_COMPLETE | wait if self._rng.random() < 0.93 else 0,
        )

    # -- commands --------------------------------------------------------------------------------

    def _allocate(self) -> list[Operation]:
        return [self._command(Opcode.MEMORY_ALLOCATE, max(1, self._size()))]

    def _free(self) -> list[Operation]:
        return [self._command(Opcode.MEMORY_FREE, self._one("memory"))]

    def _copy(self) -> list[Operation]:
        rng = self._rng
        size, stream = self._size(), self._stream_handle()
        if rng.random() < 0.3:
            return [
                self._command(
                    Opcode.COPY_DEVICE_TO_DEVICE, self._memory(), self._memory(), size, stream, 0
                )
            ]
        opcode = rng.choice((Opcode.COPY_HOST_TO_DEVICE, Opcode.COPY_DEVICE_TO_HOST))
        offset = rng.choice((0, _DATA, _DATA + 1, REGISTERED_BYTES - 4))
        fields = (self._memory(), offset, size, self._registration(), stream)
        return [self._command(opcode, *fields)]

    def _inline(self) -> list[Operation]:
        data = self._rng.randbytes(self._rng.choice((0, 1, 8, 100, 2000)))
        return [
            self._command(
                Opcode.COPY_INLINE, self._memory(), self._stream_handle(), TAIL_BYTES, tail=(data,)
            )
        ]

    def _copy_2d(self) -> list[Operation]:
        rng = self._rng
        width, height = rng.choice((0, 1, 4, 64, 100)), rng.choice((0, 1, 2, 10, 64))
        pitch = rng.choice((width, 64, 128, 4096))
        sides: list[tuple[Value, int]] = []
        for _ in range(2):
            if rng.random() < 0.5:
                sides.append((self._memory(), 0))
            else:
                sides.append((rng.choice((_DATA, 0)), self._registration()))
        (to, to_registration), (source, from_registration) = sides
        fields = (to, pitch, source, rng.choice((pitch, 128)), width, height)
        return [
            self._command(
                Opcode.COPY_2D, *fields, to_registration, from_registration,
                self._stream_handle(), 0,
            )
        ]  # fmt: skip

    def _memset(self) -> list[Operation]:
        rng = self._rng
        value, element = rng.getrandbits(32), rng.choice((1, 2, 4, 4, 3))
        if rng.random() < 0.6:
            fields: tuple[Value, ...] = (self._memory(), self._size(), value, element)
            opcode = Opcode.MEMSET
        else:
            pitch, width, height = (
                rng.choice((64, 128)),
                rng.choice((1, 16, 32)),
                rng.choice((1, 9)),
            )
            fields = (self._memory(), pitch, width, height, value, element)
            opcode = Opcode.MEMSET_2D
        return [self._command(opcode, *fields, self._stream_handle(), 0)]

    def _loaded(self) -> list[Operation]:
        """A program of the usual kind: memory, a module, its kernels."""
        rng = self._rng
        name = rng.choice(("store", "shared"))
        found: list[Operation] = [
            Command(Opcode.MEMORY_ALLOCATE, (65536,)),
            *self._load(name),
            Step(),
        ]
        self._kernels = KERNELS[:1] if name == "store" else KERNELS[1:4]
        for kernel in self._kernels:
            found += [self._get_function(kernel, 0), Step()]
        return found

    def _load(self, name: str) -> list[Operation]:
        image = PROGRAMS[name]
        fields = (_IMAGE, len(image), _REPLY, 1, self._rng.choice((0, 1, 3)), 256, abi.IMAGE_PTX)
        return [Put(_IMAGE, program=name), self._command(Opcode.MODULE_LOAD, *fields)]

    def _module(self) -> list[Operation]:
        rng = self._rng
        if rng.random() < 0.25:
            return [self._command(Opcode.MODULE_UNLOAD, self._one("module"), 0)]
        name = rng.choice(("store", "store", "shared", "shared", "called", "broken", "empty"))
        return self._load(name)

    def _get_function(self, kernel: str, module: int | None = None) -> Command:
        which: Value = self._one("module") if module is None else ("module", module, 0)
        fields = (_REPLY, 1, self._rng.choice((256, 256, 256, 8)), which, TAIL_BYTES)
        return self._command(Opcode.MODULE_GET_FUNCTION, *fields, tail=(kernel.encode(),))

    def _function(self) -> list[Operation]:
        rng = self._rng
        if rng.random() < 0.3:
            name = rng.choice((b"counter", b"tile", b"", b"\xff"))
            return [
                self._command(
                    Opcode.MODULE_GET_GLOBAL, self._one("module"), TAIL_BYTES, tail=(name,)
                )
            ]
        return [self._get_function(rng.choice(KERNELS))]

    def _ask(self) -> list[Operation]:
        rng = self._rng
        function = self._one("function")
        attribute = rng.choice((0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 16, 17, -1))
        value = rng.choice((0, 1, 1024, 49152, 65536, -1, 100))
        return [
            rng.choice(
                (
                    self._command(Opcode.FUNCTION_SET_ATTRIBUTE, function, attribute, value, 0),
                    self._command(Opcode.FUNCTION_GET_ATTRIBUTE, function, attribute),
                    self._command(
                        Opcode.FUNCTION_OCCUPANCY, self._size(), function, self._threads(), 0, 0
                    ),
                    self._command(
                        Opcode.FUNCTION_AVAILABLE_SHARED, function, 1, self._threads(), 0
                    ),
                    self._command(Opcode.MEMORY_GET_INFO),
                )
            )
        ]

    def _threads(self) -> int:
        return self._rng.choice((0, 1, 32, 33, 64, 1024, 1025))

    def _good_launch(self) -> Command:
        """A launch of a kernel that is there, on memory that mostly is."""
        rng = self._rng
        index = rng.randrange(len(self._kernels))
        count = rng.choice((0, 1, 64, 1000)).to_bytes(4, "little")
        out: Value = ("memory", 0 if rng.random() < 0.8 else rng.randrange(6), 0)
        tail: tuple[Value, ...] = {
            "store": (out, count), "reverse": (out,), "spin": (count,), "trap_now": (),
        }[self._kernels[index]]  # fmt: skip
        if self._kernels[index] == "trap_now" and rng.random() < 0.8:
            index, tail = 0, (out,)
        grid, block = rng.choice((1, 1, 2)), rng.choice((1, 32, 64))
        values = (("function", index, 0), grid, 1, 1, block, 1, 1, 0, self._stream_handle())
        return self._command(Opcode.LAUNCH_KERNEL, *values, TAIL_BYTES, tail=tail)

    def _launch(self) -> list[Operation]:
        rng = self._rng
        if self._kernels and rng.random() < 0.75:
            return [self._good_launch()]
        opcode = Opcode.LAUNCH_KERNEL if rng.random() < 0.85 else Opcode.LAUNCH_COOPERATIVE
        grid = (rng.choice((1, 1, 2, 7, 0)), rng.choice((1, 1, 1, 2)), 1)
        block = (rng.choice((1, 32, 64, 64, 100, 1024, 0)), rng.choice((1, 1, 1, 2)), 1)
        count = rng.choice((0, 1, 64, 1000)).to_bytes(4, "little")
        tail = rng.choice(
            ((self._memory(), count), (self._memory(), count), (self._memory(),), (count,), ())
        )
        shared = rng.choice((0, 0, 0, 256, 49152, 49153))
        function: Value = ("function", rng.randrange(4), 0)
        return [
            self._command(
                opcode, function, *grid, *block, shared, self._stream_handle(), TAIL_BYTES,
                tail=tail,
            )
        ]  # fmt: skip

    def _stream(self) -> list[Operation]:
        rng = self._rng
        handle = self._one("stream")
        return [
            rng.choice(
                (
                    self._command(Opcode.STREAM_CREATE, rng.choice((0, 1)), rng.choice((0, -1))),
                    self._command(Opcode.STREAM_CREATE, rng.choice((0, 1, 2)), 0),
                    self._command(Opcode.STREAM_DESTROY, handle, 0),
                    self._command(Opcode.STREAM_SYNCHRONIZE, self._stream_handle(), 0),
                    self._command(Opcode.STREAM_QUERY, handle, 0),
                    self._command(
                        Opcode.STREAM_WAIT_EVENT, self._stream_handle(), self._one("event"), 0, 0
                    ),
                )
            )
        ]

    def _event(self) -> list[Operation]:
        rng = self._rng
        event = self._one("event")
        return [
            rng.choice(
                (
                    self._command(Opcode.EVENT_CREATE, rng.choice((0, 0, 1, 2, 4)), 0),
                    self._command(Opcode.EVENT_CREATE, 0, 0),
                    self._command(Opcode.EVENT_DESTROY, event, 0),
                    self._command(Opcode.EVENT_RECORD, event, self._stream_handle()),
                    self._command(Opcode.EVENT_RECORD, event, self._stream_handle()),
                    self._command(Opcode.EVENT_QUERY, event, 0),
                    self._command(Opcode.EVENT_SYNCHRONIZE, event, 0),
                    self._command(Opcode.EVENT_ELAPSED_TIME, event, self._one("event")),
                )
            )
        ]

    def _graph(self) -> list[Operation]:
        rng = self._rng
        choice = rng.random()
        graph = self._one("graph")
        if choice < 0.35:
            return [self._command(Opcode.GRAPH_LAUNCH, graph, self._stream_handle())]
        if choice < 0.45:
            opcode = rng.choice((Opcode.GRAPH_DESTROY, Opcode.GRAPH_UPLOAD))
            return [self._command(opcode, graph, 0)]
        nodes = self._nodes()
        size = len(pack_nodes(nodes, lambda value: 0))
        fields = (_NODES, size, self._registration(), len(nodes))
        if choice < 0.85:
            return [PutNodes(_NODES, nodes), self._command(Opcode.GRAPH_INSTANTIATE, *fields)]
        return [PutNodes(_NODES, nodes), self._command(Opcode.GRAPH_UPDATE, *fields, graph, 0)]

    def _nodes(self) -> tuple[Value, ...]:
        rng = self._rng
        makers = (self._copy, self._copy_2d, self._memset, self._launch, self._event, self._blas)
        nodes: list[Value] = []
        for place in range(rng.choice((0, 1, 2, 5))):
            made = rng.choice(makers)()[-1] if rng.random() < 0.95 else self._anything()[-1]
            if not isinstance(made, Command):
                continue
            waits: tuple[Value, ...] = (
                (rng.randrange(place),) if place and rng.random() < 0.7 else ()
            )
            if rng.random() < 0.05:
                waits = (number(rng, 32),)
            nodes.append((waits, made.opcode, made.values, made.tail))
        return tuple(nodes)

    def _blas(self) -> list[Operation]:
        rng = self._rng
        if rng.random() < 0.1:
            return [self._command(Opcode.BLAS_PREPARE)]
        kind = rng.choice(_TYPES[:5])
        size = [rng.choice((0, 1, 2, 5, 16, 33)) for _ in range(3)]
        steps = [rng.choice((1, 33, 33, 33, 64, 0, -1)) for _ in range(3)]
        scalar = bytes.fromhex(rng.choice(("0000803f", "000000000000f03f", "003c", "00")))
        fields: tuple[Value, ...] = (
            rng.choice(_ROUTINES),
            kind,
            kind if rng.random() < 0.9 else rng.choice(_TYPES),
            kind if rng.random() < 0.9 else rng.choice(_TYPES),
            rng.choice(_COMPUTE_TYPES),
            0,
            *(rng.randrange(3) for _ in range(2)),
            *(rng.randrange(2) for _ in range(3)),
            rng.choice((0, 0, 0, 1, 2, 3)),
            self._stream_handle(),
            0,
            *size,
            *(("memory", rng.randrange(3), 0) for _ in range(3)),
            *steps,
            *(rng.choice((0, 64, 1024)) for _ in range(3)),
            rng.choice((1, 1, 1, 0, 2, 3)),
            0,
            0,
            scalar,
            scalar,
        )
        return [self._command(Opcode.BLAS, *fields)]

    def _context(self) -> list[Operation]:
        rng = self._rng
        choice = rng.random()
        limit = rng.choice((0, 1, 2, 3, 99))
        if choice < 0.2 and self._contexts < 4:
            self._contexts += 1
            return [Command(Opcode.CONTEXT_CREATE, (rng.choice((0, 4, 256)), 0), context=0)]
        if choice < 0.3:
            return [self._command(Opcode.CONTEXT_DESTROY)]
        if choice < 0.5:
            return [self._command(Opcode.CONTEXT_SYNCHRONIZE)]
        if choice < 0.7:
            return [self._command(Opcode.CONTEXT_SET_LIMIT, limit, 0, number(rng, 64))]
        if choice < 0.85:
            return [self._command(Opcode.CONTEXT_GET_LIMIT, limit, 0)]
        return [self._command(Opcode.OUTPUT_READ, _REPLY, self._registration(), self._size())]

    def _link(self) -> list[Operation]:
        rng = self._rng
        names = rng.choice((("caller", "called"), ("caller",), ("store", "store"), ("broken",), ()))
        size = len(pack_parts([(name.encode(), PROGRAMS[name]) for name in names]))
        room = rng.choice((0, 16, 16384))
        return [
            PutParts(_PARTS, names),
            self._command(Opcode.MODULE_LINK, _PARTS, size, _REPLY, room, _DATA, 1, 256),
        ]

    def _anything(self) -> list[Operation]:
        """A command of any opcode with anything in it."""
        rng = self._rng
        opcode = rng.choice(_CHANNEL_OPCODES) if rng.random() < 0.8 else number(rng, 16)
        layout = abi.COMMANDS.get(opcode)
        count = len(layout.field_names) if layout else rng.randrange(6)
        values: tuple[Value, ...] = tuple(
            self._memory() if rng.random() < 0.2 else number(rng, 64) for _ in range(count)
        )
        tail = (mutated_bytes(rng, rng.randbytes(8)),) if rng.random() < 0.3 else ()
        return [self._command(opcode, *values, tail=tail)]
