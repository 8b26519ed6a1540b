"""LLVM IR text to machine code: optimise, keep on disk, link.

Objects are kept by the hash of everything that shapes them.
"""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path

import llvmlite
import llvmlite.binding as llvm

from .object_cache import ObjectCache, default_cache_dir

ENTRY = "vgpu_run"


class Compiler:
    """Compiles kernels for the processor it runs on and keeps them linked while they are in use."""

    def __init__(self, cache_dir: Path | None = None) -> None:
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        self._cache = ObjectCache(cache_dir or default_cache_dir())
        self._cpu = llvm.get_host_cpu_name()
        self._features = llvm.get_host_cpu_features().flatten()
        self._triple = llvm.get_process_triple()
        target = llvm.Target.from_triple(self._triple)
        self._machine, self._plain_machine = (
            target.create_target_machine(
                cpu=self._cpu, features=self._features, opt=level, reloc="pic", codemodel="default"
            )
            for level in (2, 0)
        )
        self._engine = llvm.create_lljit_compiler(
            target.create_target_machine(
                cpu=self._cpu, features=self._features, opt=2, jit=True, codemodel="jitdefault"
            ),
            # JITLink keeps code and constants of an object together; the older linker maps them
            # one by one, which once memory is crowded puts them beyond a 32-bit offset.
            use_jit_link=True,
        )
        self._lock = threading.Lock()
        self._linked = 0
        self.compiled = 0

    def compile(self, text: str, optimize: bool = True) -> tuple[int, object]:
        """Compile a module of LLVM IR; unoptimised code is made in a tenth of the time.

        Returns:
            The address of `vgpu_run`, and a token that keeps the code alive.
        """
        with self._lock:
            key = self._key(text, optimize)
            image = self._cache.load(key)
            if image is None:
                image = self._emit(text, optimize)
                self._cache.save(key, image)
            self._linked += 1
            library = (
                llvm.JITLibraryBuilder()
                .add_object_img(image)
                .add_current_process()
                .export_symbol(ENTRY)
                .link(self._engine, f"kernel{self._linked}")
            )
            return int(library[ENTRY]), library

    def _key(self, text: str, optimize: bool) -> str:
        parts = (
            text,
            str(optimize),
            self._cpu,
            self._features,
            llvmlite.__version__,
            ".".join(map(str, llvm.llvm_version_info)),
        )
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()

    def _emit(self, text: str, optimize: bool) -> bytes:
        module = llvm.parse_assembly(text)
        module.triple = self._triple
        module.data_layout = str(self._machine.target_data)
        module.verify()
        self.compiled += 1
        if not optimize:
            return bytes(self._plain_machine.emit_object(module))
        options = llvm.create_pipeline_tuning_options(speed_level=2)
        options.loop_vectorization = False
        options.slp_vectorization = False
        options.loop_unrolling = False
        builder = llvm.create_pass_builder(self._machine, options)
        builder.getModulePassManager().run(module, builder)
        return bytes(self._machine.emit_object(module))
