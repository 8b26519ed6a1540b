"""The dynamic linker's log: what is read from it."""

from __future__ import annotations

from vgpu_stub.explain.loader import LoadError, Wanted, parse_linker_log

LOG = """\
     26891:\t
     26891:\tfile=libc.so.6 [0];  needed by ./app [0]
     26891:\tfind library=libc.so.6 [0]; searching
     26891:\t  trying file=/lib/x86_64-linux-gnu/libc.so.6
     26891:\tfile=libc.so.6 [0];  generating link map
     26891:\tcalling init: /lib/x86_64-linux-gnu/libc.so.6
     26891:\tinitialize program: ./app
     26891:\tfile=libcuda.so.1 [0];  dynamically loaded by ./app [0]
     26891:\tfile=libcuda.so.1 [0];  generating link map
     26891:\tcalling init: /opt/vgpu/libcuda.so.1
     26891:\tfile=/opt/app/libapp-cuda.so [0];  dynamically loaded by ./app [0]
     26891:\tfile=/opt/app/libapp-cuda.so [0];  generating link map
     26891:\tfile=libcublas.so.12 [0];  needed by /opt/app/libapp-cuda.so [0]
     26891:\tfind library=libcublas.so.12 [0]; searching
     26891:\t/opt/app/libapp-cuda.so: error: symbol lookup error: undefined symbol: f (fatal)
     26891:\t/opt/vgpu/libcuda.so.1: error: symbol lookup error: undefined symbol: optional (fatal)
"""


def test_libraries_are_loaded_missing_or_broken() -> None:
    log = parse_linker_log(26891, LOG)
    assert log.programs == ["./app"]
    assert log.loaded == ["/lib/x86_64-linux-gnu/libc.so.6", "/opt/vgpu/libcuda.so.1"]
    assert log.missing == [Wanted("libcublas.so.12", "/opt/app/libapp-cuda.so", dynamic=False)]
    assert log.errors == [
        LoadError("/opt/app/libapp-cuda.so", "symbol lookup error: undefined symbol: f")
    ]


def test_a_library_is_found_by_the_start_of_its_name() -> None:
    log = parse_linker_log(26891, LOG)
    assert log.path_of("libcuda.so") == "/opt/vgpu/libcuda.so.1"
    assert log.path_of("libcud") is None
