"""Failures as pytest files, and how those files run their sequence."""

from __future__ import annotations

import keyword
import re
from collections.abc import Sequence
from pathlib import Path

from vgpu_stub.fuzz.operations import Operation, as_python
from vgpu_stub.fuzz.process import ChildProcess
from vgpu_stub.fuzz.targets import make_target

_TEMPLATE = '''"""{title}

Found by `{command}` and made small by it.
"""

from __future__ import annotations

{imports}

# fmt: off
OPERATIONS = {operations}
# fmt: on


def test_{name}() -> None:
    check_sequence("{target}", OPERATIONS)
'''


def check_sequence(target: str, operations: Sequence[Operation], limit_s: float = 30.0) -> None:
    """Run a sequence in a process and world of its own.

    Raises:
        AssertionError: It failed; the message says how.
    """
    with ChildProcess(target, 0, limit_s) as child:
        failure = child.judge(operations)
    assert failure is None, f"{failure.signature}\n{failure.detail}"


def write_regression(
    folder: Path, target: str, signature: str, operations: Sequence[Operation], command: str
) -> Path:
    """Write a sequence as a pytest file; returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    name = "_".join(re.findall(r"[a-z0-9]+", signature.lower()))[:60].strip("_") or "failure"
    name = f"{name}_" if keyword.iskeyword(name) else name
    label = re.sub(r"\W+", "_", target.rpartition(":")[2]).lower()
    path = folder / f"test_{label}_{name}.py"
    classes: dict[str, set[str]] = {}
    for operation in operations:
        kind = type(operation)
        classes.setdefault(kind.__module__, set()).add(kind.__name__)
    classes.setdefault("vgpu_stub.fuzz.regression", set()).add("check_sequence")
    imports = "\n".join(
        f"from {module} import {', '.join(sorted(names))}"
        for module, names in sorted(classes.items())
    )
    path.write_text(
        _TEMPLATE.format(
            title=f"{make_target(target).name}: {signature}.",
            command=command,
            imports=imports,
            operations=as_python(operations),
            name=name,
            target=target,
        )
    )
    return path
