"""The rules of the data sheet, by number, and which attacks try each of them.

`python -m vgpu_stub.villain.guest.sheet docs/device.md` writes the table at the end of the data
sheet anew; a unit test keeps it fresh, and sees to it that every rule is tried or says why not.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from vgpu_stub.villain.guest.catalogue import attacks

BEGIN: Final = "<!-- rules: written by vgpu_stub.villain.guest.sheet -->"
END: Final = "<!-- end of rules -->"
#: Attacks of a rule that the table names before it only counts.
_NAMED: Final = 3


@dataclass(frozen=True)
class Rule:
    """A rule of the data sheet.

    Attributes:
        number: Its number, which stays.
        text: The rule.
        not_tried: Why no attack tries it, "" where one does.
    """

    number: str
    text: str
    not_tried: str = ""


_GUEST: Final = "a rule for the guest: the device cannot tell"

RULES: Final = (
    Rule("1.1", "Identity in config space is read-only, reserved bits read 0"),
    Rule("1.2", "The capability list and the places of MSI-X are read-only"),
    Rule("1.3", "BAR0 has 64 KiB, BAR2 64 MiB; nothing lies beyond"),
    Rule("1.4", "Config space has 4096 bytes without extended capabilities; any width is taken"),
    Rule("1.5", "Power states are D0 and D3hot; going there and back keeps the state"),
    Rule("2.1", "Read-only registers and unknown bits ignore writes"),
    Rule("2.2", "Other widths than 4 and 8 bytes read 0 and ignore writes"),
    Rule("2.3", "A 64-bit access is two 32-bit ones, low word first"),
    Rule("2.4", "Unaligned accesses read 0 and ignore writes"),
    Rule("2.5", "Offsets that are not listed read 0 and ignore writes"),
    Rule("2.6", "INTERRUPT_TEST takes vectors that exist, and counts those"),
    Rule("2.7", "Doorbells may be rung for nothing"),
    Rule("2.8", "ENABLE on an enabled device changes nothing"),
    Rule("2.9", "A guest of another major or a newer minor version is refused"),
    Rule("2.10", "ERROR holds the first device error until a bit of it is written"),
    Rule("2.11", "Bus mastering and two vectors are enabled before the device", _GUEST),
    Rule("2.12", "Every kind of reset ends all channels and zeroes all channel memory"),
    Rule("2.13", "A reset is complete when the write that caused it is"),
    Rule(
        "2.14",
        "MSI-X routing and DMA windows survive a reset",
        "no attack of its own: every attack is followed by a reset, and the channel that is made"
        " then uses the windows and vectors from before",
    ),
    Rule("3.1", "sq_tail counts up for ever from 0; it is the guest's"),
    Rule("3.2", "sq_tail - sq_head never exceeds SQ_ENTRIES, else the channel fails"),
    Rule("3.3", "A command takes 1 to COMMAND_MAX_SLOTS slots, which hold its fields and tail"),
    Rule("3.4", "A command does not cross the end of the ring"),
    Rule("3.5", "Reserved bits are ignored"),
    Rule("3.6", "Exactly one completion with COMMAND_COMPLETE, none without"),
    Rule("3.7", "COMMAND_WAIT delays the completion until the stream is there"),
    Rule("3.8", "Completions are held back while the guest's ring is full"),
    Rule("3.9", "The host never relies on anything that it wrote to shared memory"),
    Rule("3.10", "The device info is written by the device, again at each reset"),
    Rule("3.11", "cq_waiting asks for an interrupt; any value is safe"),
    Rule("3.12", "An asynchronous error is reported once, a sticky one again and again"),
    Rule("3.13", "A channel whose worker dies or whose ring breaks fails, and no other"),
    Rule("3.14", "Only CHANNEL_DESTROY leaves FAILED; cq_tail does not move any more"),
    Rule("3.15", "A channel fails when a DMA window with its memory goes away"),
    Rule("3.16", "A command works in the context that its header names"),
    Rule("3.17", "Handles and names are those of their context and module"),
    Rule("3.18", "Sizes, pointers, flags and attributes without sense are refused"),
    Rule("3.19", "Module images may be anything: they are loaded or refused"),
    Rule("3.20", "A launch fits the kernel and the device"),
    Rule("3.21", "Kernels that fault or run too long end in an error of their context"),
    Rule("3.22", "What kernels print is kept in a buffer of limited size"),
    Rule("3.23", "Graphs are well-formed, and their nodes checked like commands"),
    Rule("3.24", "What the guest can write is copied once, then checked"),
    Rule(
        "3.25",
        "The guest writes the command before sq_tail, and sq_tail before it looks at sq_sleeping",
        _GUEST,
    ),
    Rule("4.1", "Channel 0 has the same rings and rules"),
    Rule("4.2", "A command completes once it has been carried out in full"),
    Rule("4.3", "CHANNEL_CREATE: EINVAL bad number or vector, EBUSY in use"),
    Rule("4.4", "CHANNEL_DESTROY: EINVAL, ENOENT; nothing of the channel runs afterwards"),
    Rule("4.5", "MEMORY_REGISTER: EINVAL, ENOENT, EEXIST, ENOSPC, ENOMEM"),
    Rule("4.6", "Scatter lists are aligned, in guest memory, and end where the command says"),
    Rule("4.7", "Entries are whole pages of guest memory with the access that is asked for"),
    Rule("4.8", "MEMORY_UNREGISTER: ENOENT; the device does not touch the memory afterwards"),
    Rule("4.9", "DEVICE_STATUS: EINVAL too little room, EFAULT no guest memory there"),
    Rule("4.10", "Registration id, offset and size are checked against the channel's own"),
    Rule("4.11", "A registration grants the access that it was made with"),
    Rule("4.12", "Unknown opcodes: EOPNOTSUPP (admin), CUDA_ERROR_NOT_SUPPORTED (others)"),
    Rule("4.13", "A guest cannot fill the host's disk with messages"),
    Rule(
        "4.14",
        "CHANNEL_CREATE: EAGAIN where no worker could be started",
        "the host's doing: no guest can cause it",
    ),
    Rule(
        "4.15",
        "DEVICE_STATUS: EIO, EOPNOTSUPP where nobody measures",
        "the host's doing: no guest can cause it",
    ),
    Rule("5.1", "Interrupts coalesce"),
    Rule("5.2", "Several channels may share a vector"),
    Rule("6.1", "vfio-user: a client that breaks the protocol harms its own connection at most"),
)


def tried_by() -> dict[str, list[str]]:
    """Attacks by the number of the rule that they try, in the order of their names."""
    found: dict[str, list[str]] = {rule.number: [] for rule in RULES}
    for attack in attacks():
        for number in attack.covers:
            found.setdefault(number, []).append(attack.id)
    return {number: sorted(names) for number, names in found.items()}


def table() -> str:
    """The table of rules in Markdown, between its marks."""
    rows = ["| rule | | tried by |", "| --- | --- | --- |"]
    names = tried_by()
    for rule in RULES:
        tried = names[rule.number]
        text = ", ".join(f"`{name}`" for name in tried[:_NAMED])
        if len(tried) > _NAMED:
            text += f" and {len(tried) - _NAMED} more"
        rows.append(f"| {rule.number} | {rule.text} | {text or f'not tried: {rule.not_tried}'} |")
    return "\n".join([BEGIN, *rows, END])


def with_table(document: str) -> str:
    """A document with the table of rules in place of what is between the marks.

    Raises:
        ValueError: The marks are not there.
    """
    start, end = document.index(BEGIN), document.index(END) + len(END)
    return document[:start] + table() + document[end:]


def main() -> int:
    """Write the table into the document named on the command line."""
    path = Path(sys.argv[1])
    path.write_text(with_table(path.read_text()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
