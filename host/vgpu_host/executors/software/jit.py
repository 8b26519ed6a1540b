"""LLVM IR text to machine code: optimise, link."""

from __future__ import annotations

import threading
from collections.abc import Mapping

import llvmlite.binding as llvm

from .host_functions import definitions
from .routines import HALF_NAMES, HALF_ROUTINES

ENTRY = "vgpu_run"


_AVX2 = ("f16c", "fma", "avx2")
#: Levels of the x86-64 architecture for which code can be made, and what they have of the abilities
#: that this package asks for.
_LEVELS = {"x86-64-v2": (), "x86-64-v3": _AVX2, "x86-64-v4": (*_AVX2, "avx512bw")}


class Compiler:
    """Compiles kernels for a processor and keeps them linked while they are in use.

    Args:
        processor: a level of the x86-64 architecture, such as "x86-64-v2"; "" for all that the
            processor of this machine can do.

    Raises:
        ValueError: there is no such level.
    """

    def __init__(self, processor: str = "") -> None:
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        if processor:
            if processor not in _LEVELS:
                raise ValueError(f"no processor {processor!r}; choose one of {', '.join(_LEVELS)}")
            self._abilities: Mapping[str, bool] = dict.fromkeys(_LEVELS[processor], True)
            self._cpu, self._features = processor, ""
        else:
            features = llvm.get_host_cpu_features()
            self._abilities = features
            self._cpu = llvm.get_host_cpu_name()
            # Where there is `vpdpwssd`, prefer it to two instructions: that is a matter of taste,
            # and LLVM looks at the chain of sums alone, of which products of matrices have many.
            self._features = f"{features.flatten()},+fast-dpwssd"
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
        self._routines: dict[str, int] = {}
        if not self._abilities.get("f16c"):
            self._link_routines()
        self.compiled = 0

    def _link_routines(self) -> None:
        module, machine = self._prepare(HALF_ROUTINES, True)
        builder = llvm.JITLibraryBuilder().add_object_img(machine.emit_object(module))
        for name in HALF_NAMES:
            builder = builder.export_symbol(name)
        self._library = builder.link(self._engine, "routines")
        self._routines = {name: int(self._library[name]) for name in HALF_NAMES}

    @property
    def processor(self) -> str:
        """What the code is made for: objects for another processor may not run here."""
        return f"{self._cpu} {self._features}"

    def link(self, image: bytes) -> tuple[int, object]:
        """Link an object into this process.

        Returns:
            The address of `vgpu_run`, and a token that keeps the code alive.
        """
        with self._lock:
            self._linked += 1
            builder = llvm.JITLibraryBuilder().add_object_img(image).add_current_process()
            for name, address in self._routines.items():
                builder = builder.import_symbol(name, address)
            builder = builder.export_symbol(ENTRY)
            library = builder.link(self._engine, f"kernel{self._linked}")
            return int(library[ENTRY]), library

    def emit(self, text: str, optimize: bool = True) -> bytes:
        """Compile a module of LLVM IR to an object; without optimising in a tenth of the time.

        Raises:
            RuntimeError: LLVM does not accept the text; the message says why.
        """
        with self._lock:
            module, machine = self._prepare(text, optimize)
            self.compiled += 1
            return bytes(machine.emit_object(module))

    def show(self, text: str, optimize: bool = True) -> tuple[str, str]:
        """What `emit` makes of a module of LLVM IR, to be read: the IR at last, and assembly.

        Raises:
            RuntimeError: LLVM does not accept the text; the message says why.
        """
        with self._lock:
            module, machine = self._prepare(text, optimize)
            return str(module), str(machine.emit_assembly(module))

    def _prepare(self, text: str, optimize: bool) -> tuple[llvm.ModuleRef, llvm.TargetMachine]:
        """The module, ready for the machine that comes with it."""
        module = llvm.parse_assembly(text + definitions(text, self._abilities))
        module.triple = self._triple
        module.data_layout = str(self._machine.target_data)
        module.verify()
        if not optimize:
            return module, self._plain_machine
        options = llvm.create_pipeline_tuning_options(speed_level=2)
        options.loop_vectorization = False
        options.slp_vectorization = False
        options.loop_unrolling = False
        builder = llvm.create_pass_builder(self._machine, options)
        builder.getModulePassManager().run(module, builder)
        return module, self._machine
