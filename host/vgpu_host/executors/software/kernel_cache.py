"""What is known of modules and kernels from earlier runs: no text is looked at twice.

An entry of a module is its index. A kernel has an entry of its description and, once it was
launched, one of its machine code for the shape of its blocks. Keys hash everything that shapes an
entry: the image, the translation, the processor, LLVM, and this package itself.
"""

from __future__ import annotations

import hashlib
import json
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path

import llvmlite
import llvmlite.binding as llvm

from .index import FunctionSource, ModuleSource
from .initial import Initial
from .ir import Variable
from .object_cache import ObjectCache
from .translation import Translation


@dataclass(frozen=True, slots=True)
class KernelDescription:
    """What is to be known of a kernel, apart from its code; sizes in bytes.

    Attributes:
        name: As in the module.
        parameters: Offset and size of each parameter in the parameter buffer.
        globals: Module variables that it uses, in the order of its table of addresses.
        registers: 32-bit registers that are live at once, at most.
        max_threads: Threads of a block that the kernel allows; 0 for no limit of its own.
        shared_frame: Static shared memory with the gaps that a checker wants in it.
        shared_variables: Name, offset and size of each variable in it; size 0 for a dynamic one.
        sites: How many things checkers may find in it.
    """

    name: str
    parameters: tuple[tuple[int, int], ...]
    globals: tuple[str, ...]
    shared_size: int
    local_size: int
    registers: int
    max_threads: int
    shared_frame: int
    shared_variables: tuple[tuple[str, int, int], ...]
    sites: int


@dataclass(frozen=True, slots=True)
class KernelCode:
    """Machine code of a kernel.

    Attributes:
        context_size: Bytes that each of its warps needs at barriers.
        image: The object file.
        blocks: The instructions of each block that it counts, blank separated.
    """

    context_size: int
    image: bytes
    blocks: tuple[str, ...] = ()


class KernelCache:
    """Indexes and kernels on disk, for one processor."""

    def __init__(self, store: ObjectCache, processor: str) -> None:
        self._store = store
        self._common = "\0".join(
            (
                package_digest(),
                processor,
                llvmlite.__version__,
                ".".join(map(str, llvm.llvm_version_info)),
            )
        )

    def _key(self, *parts: str) -> str:
        return hashlib.sha256("\0".join((self._common, *parts)).encode()).hexdigest()

    def module_key(self, image: bytes, translation: Translation) -> str:
        """The key of an image, translated in a certain way."""
        checks = ",".join(sorted(translation.checks))
        return self._key(
            hashlib.sha256(image).hexdigest(),
            translation.profile.name,
            checks,
            f"general {translation.general} count {translation.count}",
        )

    def load_index(
        self, module_key: str, image: bytes
    ) -> tuple[ModuleSource, dict[str, Initial]] | None:
        """The index of an image and what its variables contain, if it is known."""
        data = self._store.load(module_key)
        if data is None:
            return None
        stored = json.loads(data)
        major, minor = stored["version"]
        source = ModuleSource(
            image,
            (major, minor),
            stored["target"],
            {entry[0]: FunctionSource(*entry) for entry in stored["functions"]},
            set(stored["declared"]),
            {entry["name"]: Variable(**entry) for entry in stored["variables"]},
        )
        initial = {
            name: Initial(b64decode(data), tuple((at, of, plus) for at, of, plus in pointers))
            for name, data, pointers in stored["initial"]
        }
        return source, initial

    def save_index(
        self, module_key: str, source: ModuleSource, initial: Mapping[str, Initial]
    ) -> None:
        """Remember the index of an image and what its variables contain."""
        stored = {
            "version": source.version,
            "target": source.target,
            "functions": [
                (f.name, f.is_entry, f.start, f.body_start, f.body_end)
                for f in source.functions.values()
            ],
            "declared": sorted(source.declared),
            # The text of initialisers is not needed any more.
            "variables": [
                asdict(replace(variable, initializer="")) for variable in source.variables.values()
            ],
            "initial": [
                (name, b64encode(value.data).decode(), value.pointers)
                for name, value in initial.items()
            ],
        }
        self._store.save(module_key, json.dumps(stored).encode())

    def load_description(self, module_key: str, name: str) -> KernelDescription | None:
        """What an earlier run found out about a kernel."""
        data = self._store.load(self._key(module_key, name))
        if data is None:
            return None
        stored = json.loads(data)
        stored["parameters"] = tuple((offset, size) for offset, size in stored["parameters"])
        stored["globals"] = tuple(stored["globals"])
        stored["shared_variables"] = tuple(map(tuple, stored["shared_variables"]))
        return KernelDescription(**stored)

    def save_description(self, module_key: str, description: KernelDescription) -> None:
        """Remember a kernel's description."""
        data = json.dumps(asdict(description)).encode()
        self._store.save(self._key(module_key, description.name), data)

    def load_code(self, module_key: str, name: str, in_rows: bool) -> KernelCode | None:
        """The code of a kernel for blocks of a shape."""
        data = self._store.load(self._key(module_key, name, f"rows {in_rows}"))
        if data is None:
            return None
        head, _, image = data.partition(b"\n")
        context_size, blocks = json.loads(head)
        return KernelCode(context_size, image, tuple(blocks))

    def save_code(self, module_key: str, name: str, in_rows: bool, code: KernelCode) -> None:
        """Remember the code of a kernel for blocks of a shape."""
        data = json.dumps((code.context_size, code.blocks)).encode() + b"\n" + code.image
        self._store.save(self._key(module_key, name, f"rows {in_rows}"), data)


@cache
def package_digest() -> str:
    """Hash of the sources of the translator: another translator makes other code."""
    digest = hashlib.sha256()
    folder = Path(__file__).parent
    for path in sorted(folder.rglob("*.py")):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()
