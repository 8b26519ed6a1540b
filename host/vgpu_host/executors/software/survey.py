"""What kernels an image has, what each takes, and whether it can be translated."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, replace

from vgpu_host.demangle import demangle

from .errors import PtxError
from .ir import Instruction
from .module import index_image
from .translation import Translation
from .translator import Lowering, refusals


@dataclass(frozen=True, slots=True)
class KernelSurvey:
    """One kernel; sizes are in bytes, and None where the kernel is refused before they are known.

    Attributes:
        name: As in the image.
        readable: As its author wrote it.
        parameters: Size of each parameter.
        shared: Static shared memory.
        local: Local memory of a thread.
        registers: 32-bit registers that are live at once, at most.
        instructions: Instructions, those of inlined functions included.
        refusal: Why it cannot be translated; empty when it can.
    """

    name: str
    readable: str
    parameters: tuple[int, ...] | None = None
    shared: int | None = None
    local: int | None = None
    registers: int | None = None
    instructions: int | None = None
    refusal: str = ""


class Image:
    """An indexed PTX image, whose kernels are looked at one by one.

    Args:
        text: PTX.
        translation: how its kernels are to be translated.

    Raises:
        PtxError: it is no PTX for this device.
    """

    def __init__(self, text: bytes, translation: Translation) -> None:
        self.source, initial = index_image(text, translation.profile)
        self._placed = tuple(initial)
        self._translation = translation

    def kernel_names(self) -> list[str]:
        """Names of the kernels, in the order of the text."""
        return [f.name for f in self.source.functions.values() if f.is_entry]

    def lowering(self, name: str, in_rows: bool = True) -> Lowering:
        """The stages of a kernel, for blocks of whole warps in the first dimension or for any."""
        in_rows = in_rows and self._translation.uses_rows
        return Lowering(self.source, name, self._placed, self._translation, in_rows)

    def survey(self, name: str) -> KernelSurvey:
        """What a kernel takes, and whether it can be translated."""
        lowering = self.lowering(name)
        found = KernelSurvey(name, demangle(name))
        try:
            with refusals(self.source, name):
                body = lowering.body
                found = replace(
                    found,
                    parameters=tuple(p.size for p in body.parameters),
                    instructions=sum(isinstance(item, Instruction) for item in body.items),
                    registers=lowering.registers,
                )
                layout = lowering.layout
                found = replace(found, shared=layout.shared_size, local=layout.local_size)
                assert lowering.text.llvm
        except PtxError as error:
            return replace(found, refusal=error.log.removeprefix(f"{name}: "))
        return found


def matching(names: list[str], wanted: str) -> list[str]:
    """Kernels that somebody may mean: by full name, readable name, or name without parameters."""
    if wanted in names:
        return [wanted]
    return [name for name in names if wanted in spellings(demangle(name))]


def nearest(names: list[str], wanted: str) -> list[str]:
    """Up to five kernels whose names are like one that does not exist, best first."""
    known: dict[str, str] = {}
    for name in names:
        readable = demangle(name)
        known.update(dict.fromkeys((name, *spellings(readable)), readable))
    close = difflib.get_close_matches(wanted, known, n=20, cutoff=0.5)
    containing = [spelling for spelling in known if wanted in spelling]
    return list(dict.fromkeys(known[spelling] for spelling in (*close, *containing)))[:5]


def spellings(readable: str) -> tuple[str, ...]:
    """Ways to write `void math::norm<256>(float*)`: so, `math::norm<256>`, `math::norm`, `norm`."""
    if "(" not in readable:
        return (readable,)
    text = readable.replace("(anonymous namespace)::", "")
    depth, start, end = 0, 0, len(text)
    for index, character in enumerate(text):
        if character == "<":
            depth += 1
        elif character == ">":
            depth -= 1
        elif depth == 0 and character == " ":
            start = index + 1
        elif depth == 0 and character == "(":
            end = index
            break
    qualified = text[start:end]
    plain = re.sub(r"<.*>", "", qualified)
    return tuple(dict.fromkeys((readable, qualified, plain, plain.rsplit("::", 1)[-1])))
