"""How the commands of the ABI are taken apart and which handler of a session carries each out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from vgpu_stub.abi import generated as abi

HEADER_BYTES: Final = abi.COMMAND_HEADER.size


class Decoder(NamedTuple):
    """What is known of an opcode.

    Attributes:
        handler: Called with the fields, and the tail where there is one.
        unpack: The fields of a command, behind its header.
        tail_start: Where the tail starts in the command; 0 for none.
        stream_place: Place of the stream among the fields; None for none.
    """

    handler: Callable[..., abi.Outcome]
    unpack: Callable[..., tuple[int, ...]]
    tail_start: int
    stream_place: int | None


def decoders(handlers: object) -> dict[int, Decoder]:
    """The decoder of each opcode of a channel; `handlers` has a method for each."""
    result: dict[int, Decoder] = {}
    for opcode, layout in abi.COMMANDS.items():
        if opcode >= abi.OPCODE_ADMIN_FIRST:
            continue
        tail_start = HEADER_BYTES + layout.fields.size if layout.has_tail else 0
        names = layout.field_names
        stream_place = names.index("stream") if "stream" in names else None
        handler = getattr(handlers, layout.handler)
        result[opcode] = Decoder(handler, layout.fields.unpack_from, tail_start, stream_place)
    return result
