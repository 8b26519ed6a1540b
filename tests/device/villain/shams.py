"""Attacks that come through, for the tests of the runner; entered when this module is imported."""

from __future__ import annotations

import os
import signal
from time import sleep

from vgpu_stub.villain.guest.scene import Scene
from vgpu_stub.villain.registry import Harm, NotPossible, Stage, Violation, attack


@attack("shams.passes", "0", "A rule.", "it holds", stage=Stage.DEVICE)
def _passes(scene: Scene) -> None:
    scene.status()


@attack("shams.cannot-be-tried", "0", "A rule.", "it holds", stage=Stage.SOCKET)
def _skips(scene: Scene) -> None:
    raise NotPossible("there is no such thing here")


@attack("shams.violates", "0", "A rule.", "it holds", stage=Stage.SOCKET)
def _violates(scene: Scene) -> None:
    raise Violation("it does not hold")


@attack("shams.wedges", "0", "A rule.", "it comes back", stage=Stage.SOCKET, deadline_s=0.5)
def _wedges(scene: Scene) -> None:
    sleep(600)


@attack("shams.kills-the-server", "0", "A rule.", "the server lives", stage=Stage.SOCKET)
def _kills(scene: Scene) -> None:
    os.kill(scene.server_pid, signal.SIGKILL)


@attack("shams.breaks-more-than-it-may", "0", "A rule.", "the channel goes on")
def _breaks(scene: Scene) -> None:
    scene.victim.channel.publish(1 << 40)


@attack("shams.breaks-nothing", "0", "A rule.", "the channel fails", harm=Harm.CHANNEL)
def _harmless(scene: Scene) -> None:
    scene.victim.check()
