"""The table that libcuda.so.1 has for the other libraries of the guest."""

from __future__ import annotations

import ctypes

OURS = bytes.fromhex("2d9c41e65b074f3a916cd814af2073e5")
INVALID_VALUE, NOT_INITIALIZED, NOT_FOUND = 1, 3, 500


def test_only_our_own_table_is_given_out(library: ctypes.CDLL) -> None:
    table = ctypes.c_void_p()
    assert library.cuGetExportTable(ctypes.byref(table), OURS) == 0
    assert table.value
    foreign = bytes(16)
    assert library.cuGetExportTable(ctypes.byref(table), foreign) == NOT_FOUND
    assert table.value is None
    assert library.cuGetExportTable(None, OURS) == INVALID_VALUE


def test_nothing_is_submitted_before_the_library_is_initialised(library: ctypes.CDLL) -> None:
    table = ctypes.POINTER(ctypes.c_void_p)()
    assert library.cuGetExportTable(ctypes.byref(table), OURS) == 0
    submit = ctypes.CFUNCTYPE(
        ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p
    )(table[1])
    command = ctypes.create_string_buffer(64)
    assert submit(None, command, len(command), None) == NOT_INITIALIZED
