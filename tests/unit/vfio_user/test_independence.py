"""The package must stay usable without the rest of the project."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import vgpu_stub.vfio_user as package


def test_only_the_standard_library_is_imported() -> None:
    foreign = set()
    for source in Path(package.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(source.read_text())):
            if isinstance(node, ast.Import):
                foreign |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                foreign.add(str(node.module))
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 1, f"{source.name} imports from outside the package"
    assert {name.split(".")[0] for name in foreign} <= set(sys.stdlib_module_names)
