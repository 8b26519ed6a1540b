"""Memory accesses of a known shape: plain vector loads and stores where lanes' addresses allow it.

The lanes of an access at a row (`affine`) touch places at known distances from its base, so one
comparison of the base checks them all, and wide loads and constant permutations fetch them. The
addresses of other accesses often have a shape too, which is tested as they come. Whatever does not
fit (out of range in some lane, no such shape) takes the way that any access can take.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from vgpu_host.executors.software.ir import BITS, WARP_SIZE, Address, Register

from .access import (
    displaced,
    gather,
    limits_of,
    load,
    locate,
    operand_value,
    scatter,
    store,
)
from .emitter import LANES, Emitter, Value, integer, lanes, mangle

#: Bytes of the longest vector.
_LINE = 64
#: Vectors, one after the other, and pieces, each from a place of its own, beyond which it is not
#: faster to load and permute them than to gather the elements.
_MOST_LINES = 5
_MOST_PIECES = 8


@dataclass(frozen=True, slots=True)
class _Shape:
    """An access at a row.

    Attributes:
        start: The lowest address that a lane touches, as a host address; a scalar i64.
        distances: Bytes from there on at which each lane's elements start.
        fits: Whether the code that follows may rely on all that.
        is_row: Whether only addresses out of range do not fit, so that hardly any code comes here
            for the other way; LLVM then puts it out of the way.
    """

    start: Value
    distances: tuple[int, ...]
    fits: Value
    is_row: bool

    @property
    def likely(self) -> str:
        """What to tell LLVM of the branch on `fits`."""
        return ", !prof !1" if self.is_row else ""


def load_elements(
    emitter: Emitter, address: Address, space: str, type_: str, count: int
) -> list[Value]:
    """Load `count` elements next to each other, checked, in every active lane."""
    size = BITS[type_] // 8
    shape = _shape_of(emitter, address, space, size * count)
    if shape is None:
        place = locate(emitter, address, space, size, count)
        return [load(emitter, place, type_, index * size) for index in range(count)]
    name = emitter.name("row")
    emitter.line(f"br {shape.fits}, label %{name}.fits, label %{name}.apart{shape.likely}")
    emitter.label(f"{name}.fits")
    _look_at_shadow(emitter, shape, type_, count, f"{name}.apart")
    together = _load_shape(emitter, shape, type_, count)
    emitter.line(f"br label %{name}.fitted")
    emitter.label(f"{name}.fitted")
    emitter.line(f"br label %{name}.join")
    emitter.label(f"{name}.apart")
    place = locate(emitter, address, space, size, count)
    apart = [load(emitter, place, type_, index * size) for index in range(count)]
    emitter.line(f"br label %{name}.gathered")
    emitter.label(f"{name}.gathered")
    emitter.line(f"br label %{name}.join")
    emitter.label(f"{name}.join")
    return [
        emitter.define(
            f"phi {a.llvm_type} [ {a.ref}, %{name}.fitted ], [ {b.ref}, %{name}.gathered ]",
            type_,
            True,
        )
        for a, b in zip(together, apart, strict=True)
    ]


def store_elements(emitter: Emitter, address: Address, space: str, values: list[Value]) -> None:
    """Store elements next to each other, checked, in every active lane."""
    size = BITS[values[0].type] // 8
    shape = _shape_of(emitter, address, space, size * len(values))
    if shape is None:
        place = locate(emitter, address, space, size, len(values))
        for index, value in enumerate(values):
            store(emitter, place, value, index * size)
        return
    values = [emitter.widen(value) for value in values]
    name = emitter.name("row")
    emitter.line(f"br {shape.fits}, label %{name}.fits, label %{name}.apart{shape.likely}")
    emitter.label(f"{name}.fits")
    _look_at_shadow(emitter, shape, values[0].type, len(values), f"{name}.apart")
    _store_shape(emitter, shape, values)
    emitter.line(f"br label %{name}.join")
    emitter.label(f"{name}.apart")
    place = locate(emitter, address, space, size, len(values))
    for index, value in enumerate(values):
        store(emitter, place, value, index * size)
    emitter.line(f"br label %{name}.join")
    emitter.label(f"{name}.join")


def _shape_of(emitter: Emitter, address: Address, space: str, size: int) -> _Shape | None:
    """What shape an access of `size` bytes a lane has or may have; None for none."""
    if space not in ("global", "shared") or not emitter.translation.uses_rows:
        return None
    register = address.base
    if not isinstance(register, Register):
        return None
    analysis = emitter.analysis
    row = emitter.row_of(register.name)
    # Where a block has a second version, the first one is for lanes that are in no row.
    if row is None and (not emitter.is_vector(register.name) or emitter.block in analysis.versions):
        return None
    hint = row or analysis.hints.get(register.name)
    offsets = hint.offsets if hint else tuple(lane * size for lane in LANES)
    lowest = min(offsets)
    distances = tuple(offset - lowest for offset in offsets)
    if any(distance % size for distance in distances) or max(distances) >= 1 << 31:
        return None
    emitter.by_base = row is not None
    # Of a vector, the first lane's address stands for the base.
    base = operand_value(emitter, register)
    value = displaced(emitter, base, address.offset, _width_of(emitter, register, space))
    emitter.by_base = False
    if row is not None:
        first = emitter.op("add", value, integer(lowest, value.type))
        return _checked(emitter, first, distances, space, size, None)
    head = emitter.define(f"extractelement {value}, i32 0", value.type)
    first = emitter.op("sub", head, integer(distances[0], value.type))
    expected = emitter.op("add", first, lanes(list(distances), value.type))
    same = emitter.lane_bits(emitter.compare("icmp eq", value, expected))
    idle = emitter.invert(emitter.active_bits())
    matches = emitter.compare("icmp eq", emitter.op("or", same, idle), integer(-1, "i32"))
    return _checked(emitter, first, distances, space, size, matches)


def _width_of(emitter: Emitter, register: Register, space: str) -> str:
    """Addresses of shared memory keep the width of their register, as their arithmetic has it."""
    storage = emitter.body.registers[register.name]
    return "i32" if space == "shared" and storage == "i32" else "i64"


def _checked(
    emitter: Emitter,
    first: Value,
    distances: tuple[int, ...],
    space: str,
    size: int,
    matches: Value | None,
) -> _Shape:
    """Test that all lanes are inside: the last one is where the first is, so much less space."""
    type_ = first.type
    start, limit = limits_of(emitter, space, type_)
    distance = first if start is None else emitter.op("sub", first, start)
    room = emitter.intrinsic("usub.sat", limit, integer(max(distances), type_))
    shift = size.bit_length() - 1
    if shift:
        distance_in = emitter.intrinsic("fshr", distance, distance, integer(shift, type_))
        room = emitter.op("lshr", room, integer(shift, type_))
    else:
        distance_in = distance
    fits = emitter.compare("icmp ult", distance_in, room)
    if matches is not None:
        fits = emitter.op("and", matches, fits)
    where = first
    if space == "shared":
        where = emitter.op("add", emitter.resize(first, "i64"), Value("%shared.base", "i64"))
    return _Shape(where, distances, fits, matches is None)


def _load_shape(emitter: Emitter, shape: _Shape, type_: str, count: int) -> list[Value]:
    size = BITS[type_] // 8
    pointer = emitter.cast("inttoptr", shape.start, "ptr")
    distances = shape.distances
    if not any(distances):
        return [
            emitter.widen(
                emitter.define(
                    f"load {type_}, ptr {_beyond(emitter, pointer, index * size).ref}, "
                    f"align {size}",
                    type_,
                )
            )
            for index in range(count)
        ]
    return [
        _load_pieces(emitter, pointer, type_, [d + index * size for d in distances])
        for index in range(count)
    ]


def _look_at_shadow(emitter: Emitter, shape: _Shape, type_: str, count: int, apart: str) -> None:
    """Where memory is checked: take the way apart, which reports, unless there is nothing to."""
    if not (emitter.instruments and emitter.instruments.watches_memory):
        return
    start = emitter.op("add", shape.start, Value("%shadow", "i64"))
    found = _load_shape(emitter, replace(shape, start=start), f"i{BITS[type_]}", count)
    well = emitter.name("well")
    emitter.line(f"br {emitter.instruments.all_well(found)}, label %{well}, label %{apart}")
    emitter.label(well)


def _load_pieces(emitter: Emitter, pointer: Value, type_: str, distances: list[int]) -> Value:
    """Load elements at some distances from a pointer: as a whole, in pieces, or one by one.

    What is read beyond the last element is never used; every space has room behind it.
    """
    size = BITS[type_] // 8
    starts = _starts(distances, size)
    span = max(distances) + size - starts[0]
    whole = -(-span // _LINE)
    if whole <= (_MOST_LINES if size >= 4 else 1) and not any(
        (distance - starts[0]) % size for distance in distances
    ):
        starts, length = [starts[0]], 1 << (-(-span // size) - 1).bit_length()
        if whole > 1:
            length = whole * _LINE // size
    elif len(starts) <= _MOST_PIECES:
        longest = max(distance - _start_of(starts, distance) for distance in distances) + size
        length = 1 << (longest // size - 1).bit_length()
    else:
        return gather(emitter, _lane_pointers(emitter, pointer, tuple(distances), 0), type_, None)
    parts = [
        emitter.define(
            f"load <{length} x {type_}>, {_beyond(emitter, pointer, start)}, align {size}", type_
        ).ref
        for start in starts
    ]
    order = []
    for distance in distances:
        start = _start_of(starts, distance)
        order.append(starts.index(start) * length + (distance - start) // size)
    return _permuted(emitter, _joined(emitter, parts, length, type_), order)


def _starts(distances: list[int], size: int) -> list[int]:
    """Where pieces start that hold all elements, each no longer than a line."""
    starts: list[int] = []
    for distance in sorted(set(distances)):
        if not starts or (distance - starts[-1]) % size or distance + size - starts[-1] > _LINE:
            starts.append(distance)
    return starts


def _start_of(starts: list[int], distance: int) -> int:
    return max(start for start in starts if start <= distance)


@dataclass(frozen=True, slots=True)
class _Joined:
    ref: str
    length: int
    type: str


def _joined(emitter: Emitter, parts: list[str], length: int, type_: str) -> _Joined:
    """Vectors one after the other."""
    while len(parts) > 1:
        kind = f"<{length} x {type_}>"
        indexes = ", ".join(f"i32 {index}" for index in range(2 * length))
        parts += ["poison"] * (len(parts) % 2)
        parts = [
            emitter.define(
                f"shufflevector {kind} {a}, {kind} {b}, <{2 * length} x i32> <{indexes}>", type_
            ).ref
            for a, b in zip(parts[::2], parts[1::2], strict=True)
        ]
        length *= 2
    return _Joined(parts[0], length, type_)


def _permuted(emitter: Emitter, whole: _Joined, order: list[int]) -> Value:
    if order == list(range(whole.length)):
        return Value(whole.ref, whole.type, True)
    kind = f"<{whole.length} x {whole.type}>"
    indexes = ", ".join(f"i32 {index}" for index in order)
    return emitter.define(
        f"shufflevector {kind} {whole.ref}, {kind} poison, <{len(order)} x i32> <{indexes}>",
        whole.type,
        True,
    )


def _beyond(emitter: Emitter, pointer: Value, offset: int) -> Value:
    if not offset:
        return pointer
    return emitter.define(f"getelementptr i8, {pointer}, i64 {offset}", "ptr")


def _lane_pointers(
    emitter: Emitter, pointer: Value, distances: tuple[int, ...], offset: int
) -> Value:
    """Pointers as a scalar and constant 32-bit distances, which a gather takes as they are."""
    places = lanes([distance + offset for distance in distances], "i32")
    return emitter.define(f"getelementptr i8, {pointer}, {places}", "ptr", True)


def _store_shape(emitter: Emitter, shape: _Shape, values: list[Value]) -> None:
    type_ = values[0].type
    size, count = BITS[type_] // 8, len(values)
    pointer = emitter.cast("inttoptr", shape.start, "ptr")
    active = emitter.active()
    if shape.distances != tuple(lane * size * count for lane in LANES):
        for index, value in enumerate(values):
            where = _lane_pointers(emitter, pointer, shape.distances, index * size)
            scatter(emitter, where, value, active)
        return
    length = WARP_SIZE * count
    order = [lane + WARP_SIZE * index for lane in LANES for index in range(count)]
    if count == 1:
        row, mask = values[0].ref, active.ref
    else:
        row = _interleaved(emitter, values, order)
        mask = _interleaved(emitter, [active] * count, order)
    kind, flags = f"<{length} x {type_}>", f"<{length} x i1>"
    name = f"llvm.masked.store.v{length}{mangle(Value('', type_))}.p0"
    emitter.declarations.add(f"declare void @{name}({kind}, ptr, {flags})")
    emitter.line(f"call void @{name}({kind} {row}, ptr align {size} {pointer.ref}, {flags} {mask})")


def _interleaved(emitter: Emitter, values: list[Value], order: list[int]) -> str:
    """All values as one vector: element 0 of each, then element 1 of each, and so on."""
    type_ = values[0].type
    whole = _joined(emitter, [value.ref for value in values], WARP_SIZE, type_)
    return _permuted(emitter, whole, order).ref
