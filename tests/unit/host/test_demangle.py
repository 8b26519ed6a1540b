"""Mangled names become what people wrote; others stay as they are."""

from __future__ import annotations

import pytest

from vgpu_host.demangle import demangle


@pytest.mark.parametrize(
    ("name", "readable"),
    [
        ("_Z5scalePfi", "scale(float*, int)"),
        ("_Z4normILi256EEvPKfPf", "void norm<256>(float const*, float*)"),
        ("vector_add", "vector_add"),
        ("_Znothing", "_Znothing"),
        ("", ""),
    ],
)
def test_names(name: str, readable: str) -> None:
    assert demangle(name) == readable
