"""Loaded modules: their kernels by name, their variables in device memory.

Loading indexes the text and places the module's variables; a kernel is parsed, checked and
translated when it is asked for, and compiled when it is first launched, unless an earlier run did
it already.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from .codegen.kernel import KernelText
from .errors import CudaResult, PtxError, UnsupportedError
from .function import Function
from .index import ModuleSource, index_module
from .initial import Initial, initial_value
from .kernel_cache import KernelCode, KernelDescription
from .profiles import Profile, profile_for
from .subroutines import function_addresses
from .translator import translate

if TYPE_CHECKING:
    from .gpu import SoftwareGpu

OLDEST_PTX, NEWEST_PTX = (3, 0), (9, 9)


def index_image(image: bytes, profile: Profile) -> tuple[ModuleSource, dict[str, Initial]]:
    """Index a PTX image and check that this device may run it.

    Returns:
        The index, and the initial values of the variables that live in device memory.

    Raises:
        PtxError: no PTX, a target that `profile` does not take, or an unknown PTX version.
    """
    if b"\0" in image or not image.strip():
        raise PtxError(CudaResult.INVALID_IMAGE, "the image is not PTX text")
    try:
        source = index_module(image)
    except UnicodeDecodeError:
        raise PtxError(CudaResult.INVALID_IMAGE, "the image is not PTX text") from None
    if not OLDEST_PTX <= source.version <= NEWEST_PTX:
        number = ".".join(map(str, source.version))
        raise PtxError(
            CudaResult.UNSUPPORTED_PTX_VERSION,
            f".version {number} is not between {OLDEST_PTX[0]}.{OLDEST_PTX[1]} and "
            f"{NEWEST_PTX[0]}.{NEWEST_PTX[1]}",
        )
    if not re.match(r"sm_\d+\d[af]?$", source.target):
        raise PtxError(CudaResult.INVALID_PTX, f"unknown .target {source.target}")
    if not profile.takes(source.target):
        other = profile_for(source.target)
        raise PtxError(
            CudaResult.NO_BINARY_FOR_GPU,
            f".target {source.target} needs "
            + (f"--profile {other.name}" if other else "a profile that does not exist")
            + f"; this device is {profile.name}",
        )
    placed = {
        variable.name: variable
        for variable in source.variables.values()
        if variable.space in ("global", "const") and not variable.external and variable.size
    }
    functions = function_addresses(source)
    try:
        return source, {name: initial_value(placed[name], placed, functions) for name in placed}
    except UnsupportedError as error:
        raise PtxError(CudaResult.INVALID_PTX, error.reason) from None


class Module:
    """A loaded PTX module; made by `SoftwareGpu.load_module`."""

    def __init__(self, gpu: SoftwareGpu, image: bytes) -> None:
        self._gpu = gpu
        self._functions: dict[str, Function] = {}
        self._globals: dict[str, int] = {}
        image = image.rstrip(b"\0")
        self._key = gpu.cache.module_key(image, gpu.translation)
        known = gpu.cache.load_index(self._key, image)
        if known is None:
            known = index_image(image, gpu.translation.profile)
            gpu.cache.save_index(self._key, *known)
        self._source, self._initial = known
        self._place_variables()

    def _place_variables(self) -> None:
        variables = self._source.variables
        try:
            for name in self._initial:
                self._globals[name] = self._gpu.place_global(
                    variables[name].size, max(variables[name].alignment, 16)
                )
        except MemoryError:
            self.unload()
            raise
        for name, initial in self._initial.items():
            initial.write(self._globals[name], variables[name].size, self._globals)
            self._gpu.written(self._globals[name], variables[name].size)

    def function_names(self) -> tuple[str, ...]:
        """Names of the kernels, in the order of the text."""
        return tuple(f.name for f in self._source.functions.values() if f.is_entry)

    def get_function(self, name: str) -> Function:
        """A kernel by name, checked and ready to be launched.

        Raises:
            KeyError: the module has no such kernel.
            PtxError: the kernel uses something that cannot be run; the log names it.
        """
        if name not in self._functions:
            if name not in self._source.functions or not self._source.functions[name].is_entry:
                raise KeyError(name)
            self._functions[name] = self._make_function(name)
        return self._functions[name]

    def _make_function(self, name: str) -> Function:
        cache = self._gpu.cache
        texts: dict[bool, KernelText] = {}
        description = cache.load_description(self._key, name)
        if description is None:
            in_rows = self._gpu.translation.uses_rows
            description, texts[in_rows] = self._translate(name, in_rows)
            cache.save_description(self._key, description)

        def code(in_rows: bool) -> KernelCode:
            known = cache.load_code(self._key, name, in_rows)
            if known is None:
                text = texts.pop(in_rows, None) or self._translate(name, in_rows)[1]
                known = self._compile(name, text)
                cache.save_code(self._key, name, in_rows, known)
            return known

        return Function(
            self._gpu,
            description,
            code,
            [self._globals[used] for used in description.globals],
            sum(v.size for v in self._source.variables.values() if v.space == "const"),
            self._source.statement,
        )

    def _translate(self, name: str, in_rows: bool) -> tuple[KernelDescription, KernelText]:
        return translate(self._source, name, self._globals, self._gpu.translation, in_rows)

    def _compile(self, name: str, text: KernelText) -> KernelCode:
        try:
            image = self._gpu.compiler.emit(text.llvm, optimize=not text.is_large)
        except RuntimeError as error:
            raise PtxError(
                CudaResult.INVALID_PTX, f"{name}: types do not fit together: {error}"
            ) from error
        return KernelCode(text.context_size, image, text.blocks)

    def get_global(self, name: str) -> tuple[int, int]:
        """Device pointer and size in bytes of a module variable; KeyError if there is none."""
        return self._globals[name], self._source.variables[name].size

    def unload(self) -> None:
        """Free the module's variables; its functions must not be used any more."""
        for address in self._globals.values():
            self._gpu.free_global(address)
        self._globals.clear()
        self._functions.clear()
