"""The attacker's process: runs the attacks that it is told to, one after the other.

`python -m vgpu_stub.villain.guest.attacker --folder DIR ...` reads names of attacks, a line each,
and answers each with a line of JSON. It may be killed at any moment: what it leaves behind is part
of the attack.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import traceback
from pathlib import Path

from vgpu_stub.driver import DriverError
from vgpu_stub.vfio_user import VfioUserError
from vgpu_stub.villain.guest.catalogue import find
from vgpu_stub.villain.guest.scene import Scene
from vgpu_stub.villain.registry import Attack, NotPossible, Verdict, Violation


def run_attack(scene: Scene, attack: Attack) -> tuple[Verdict, str]:
    """Set up, attack, and put right; returns the verdict and its reason."""
    try:
        scene.prepare(attack)
    except (DriverError, VfioUserError, Violation, OSError) as error:
        scene.leave()
        return Verdict.FAIL, f"the scene cannot be set up: {error}"
    try:
        attack.run(scene)
        verdict, reason = Verdict.PASS, ""
    except NotPossible as error:
        verdict, reason = Verdict.SKIP, str(error)
    except Violation as error:
        verdict, reason = Verdict.FAIL, str(error)
    except (DriverError, VfioUserError) as error:
        verdict, reason = Verdict.FAIL, f"the device answered with {error}"
    except Exception:
        verdict, reason = Verdict.FAIL, traceback.format_exc(limit=-3)
    try:
        scene.settle(attack)
    except (Violation, OSError) as error:
        scene.leave()
        reason = f"{reason}; afterwards: {error}" if reason else str(error)
        return Verdict.FAIL, reason
    return verdict, reason


def main() -> int:
    """Entry point of the attacker's process."""
    parser = argparse.ArgumentParser(prog="vgpu-attacker", description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="folder of the device server")
    parser.add_argument("--server-pid", type=int, required=True, help="its process")
    parser.add_argument("--seed", type=int, default=0, help="of everything random")
    parser.add_argument("--module", action="append", default=[], help="with further attacks")
    arguments = parser.parse_args()
    for name in arguments.module:
        importlib.import_module(name)
    scene = Scene(arguments.folder, arguments.server_pid, arguments.seed)
    for line in sys.stdin:
        verdict, reason = run_attack(scene, find(line.strip()))
        print(json.dumps({"verdict": verdict.value, "reason": reason}), flush=True)
    scene.leave()
    return 0


if __name__ == "__main__":
    sys.exit(main())
