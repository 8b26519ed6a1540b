"""PTX of one kernel to LLVM IR: every stage in its order."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import cached_property

from .cfg import Block
from .clusters import as_single_blocks
from .codegen.kernel import KernelText, generate
from .device_attributes import LOCAL_PER_THREAD
from .errors import CudaResult, PtxError, UnsupportedError
from .holds import arrange
from .index import ModuleSource
from .ir import BITS, Body, definitions, uses
from .kernel_cache import KernelDescription
from .launch import GAP_ROOM, PARAMETER_WINDOW
from .layout import Layout, lay_out
from .profiles import SHARED_PER_BLOCK
from .requirements import check_requirements
from .subroutines import assemble
from .translation import Translation
from .uniformity import Analysis, analyze

#: Bytes behind each variable in shared memory that the memory checker watches.
SHARED_GAP = 16
#: First compute capability on which the threads of a warp make progress apart from each other.
INDEPENDENT_THREADS = (7, 0)


class Lowering:
    """The stages of one kernel on its way from PTX to LLVM IR, each made when it is asked for.

    Ask within `refusals`: a stage that cannot be made raises an error that it names.
    """

    def __init__(
        self,
        source: ModuleSource,
        name: str,
        placed: Collection[str],
        translation: Translation,
        in_rows: bool,
    ) -> None:
        """Prepare; the arguments are those of `translate`."""
        self._in_rows = in_rows
        self._source = source
        self._name = name
        self._placed = placed
        self._translation = translation

    @cached_property
    def body(self) -> Body:
        """The kernel with the functions that it calls in it."""
        body = assemble(self._source, self._name)
        check_requirements(body, self._translation.profile, self._source.version)
        as_single_blocks(body)
        return body

    @cached_property
    def analysis(self) -> Analysis:
        """The flow graph and what is known of it; puts holds into the body where it needs them."""
        independent = self._translation.profile.capability >= INDEPENDENT_THREADS
        return arrange(self.body, independent, self._in_rows)

    @cached_property
    def general(self) -> Analysis | None:
        """The analysis that holds where the other one's assumptions fail; None if it has none."""
        if not self.analysis.assumed:
            return None
        return analyze(self.body, self.analysis.blocks, self.analysis.live, in_rows=False)

    @cached_property
    def layout(self) -> Layout:
        """Where variables are."""
        layout = lay_out(self.body, self._source.variables, self._placed)
        _check_limits(layout.shared_size, layout.local_size, layout.parameter_size)
        return layout

    @cached_property
    def frame(self) -> Layout:
        """Where variables are in the code: with gaps that a checker watches."""
        if "mem" not in self._translation.checks:
            return self.layout
        frame = lay_out(self.body, self._source.variables, self._placed, gap=SHARED_GAP)
        if frame.shared_size > self.layout.shared_size + GAP_ROOM:
            raise UnsupportedError(f"has {len(frame.shared)} shared variables, too many to check")
        return frame

    @cached_property
    def text(self) -> KernelText:
        """LLVM IR."""
        return generate(self.body, self.analysis, self.general, self.frame, self._translation)

    @property
    def registers(self) -> int:
        """32-bit registers live at once, at most."""
        return register_estimate(self.body, self.analysis.blocks, self.analysis.live)


def translate(
    source: ModuleSource,
    name: str,
    placed: Collection[str],
    translation: Translation,
    in_rows: bool,
) -> tuple[KernelDescription, KernelText]:
    """Translate a kernel of an indexed module.

    Args:
        source: the module.
        name: the kernel.
        placed: module variables that have an address.
        translation: how to translate.
        in_rows: for blocks whose first dimension is a multiple of the warp size.

    Returns:
        What is to be known of the kernel, and its code.

    Raises:
        PtxError: the kernel uses something that cannot be run; the log names it.
    """
    lowering = Lowering(source, name, placed, translation, in_rows)
    with refusals(source, name):
        body, layout, text = lowering.body, lowering.layout, lowering.text
        framed = lowering.frame
    description = KernelDescription(
        name=name,
        parameters=tuple((p.offset, p.size) for p in body.parameters),
        globals=layout.globals,
        shared_size=layout.shared_size,
        shared_frame=framed.shared_size,
        shared_variables=framed.shared_variables,
        sites=text.sites,
        local_size=layout.local_size,
        registers=lowering.registers,
        max_threads=body.max_threads,
    )
    return description, text


def _check_limits(shared: int, local: int, parameters: int) -> None:
    if shared > SHARED_PER_BLOCK:
        raise UnsupportedError(f"uses {shared} bytes of shared memory, {SHARED_PER_BLOCK} exist")
    if local > LOCAL_PER_THREAD:
        raise UnsupportedError(f"uses {local} bytes of local memory, {LOCAL_PER_THREAD} exist")
    if parameters > PARAMETER_WINDOW:
        raise UnsupportedError(f"takes {parameters} bytes of parameters")


@contextmanager
def refusals(source: ModuleSource, name: str) -> Iterator[None]:
    """Turn what stops the translation of a kernel into a `PtxError` that says where and why."""
    try:
        yield
    except UnsupportedError as error:
        where = f"line {source.line(error.position)}: " if error.position >= 0 else ""
        text = f": {error.text}" if error.text else ""
        log = f"{name}: {where}{error.reason}{text}"
        raise PtxError(CudaResult.INVALID_PTX, log) from None
    except RecursionError:
        log = f"{name}: loops or calls are nested too deeply"
        raise PtxError(CudaResult.INVALID_PTX, log) from None


def register_estimate(body: Body, blocks: list[Block], live: list[frozenset[str]]) -> int:
    """32-bit registers live at once, at most: what a register allocator cannot go below."""

    def weight(names: set[str]) -> int:
        return sum(-(-BITS[body.registers[name]] // 32) for name in names)

    most = 0
    for block in blocks:
        now: set[str] = set()
        for successor in block.successors:
            now |= live[successor]
        for instruction in reversed(block.instructions):
            now -= set(definitions(instruction))
            now |= set(uses(instruction))
            most = max(most, weight(now))
    return max(1, min(most, 255))
