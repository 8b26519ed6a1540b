"""What a replay found: every difference by command, and what could not be compared."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from vgpu_stub.harness.replay.steps import CommandStep


class DifferenceKind(StrEnum):
    """What differs."""

    STATUS = "status"  #: a command succeeded or failed otherwise
    RESULTS = "results"  #: the result words of its completion
    DATA = "data"  #: what it wrote to guest memory
    COMPLETION = "completion"  #: it did not complete, or the channel failed


@dataclass(frozen=True)
class Difference:
    """A command that was answered differently.

    Attributes:
        kind: In what.
        channel: Title of its channel.
        index: The command's place among its channel's commands, from 1.
        sequence: The guest's number of it.
        command: The command, decoded, as it was recorded.
        expected: What was recorded (or what the first of two devices said).
        actual: What came now.
    """

    kind: DifferenceKind
    channel: str
    index: int
    sequence: int
    command: str
    expected: str
    actual: str

    def __str__(self) -> str:
        return (
            f"{self.channel}: command {self.index} (sequence {self.sequence}) {self.command}:"
            f" {self.kind}: expected {self.expected}, got {self.actual}"
        )


def difference(
    kind: DifferenceKind, channel: str, step: CommandStep | None, expected: str, actual: str
) -> Difference:
    """A difference at a command."""
    if step is None:
        return Difference(kind, channel, 0, 0, "?", expected, actual)
    command = step.command
    return Difference(kind, channel, step.index, command.sequence, str(command), expected, actual)


#: Differences of one channel that are kept; the rest is counted.
_KEPT = 20


@dataclass
class ChannelReport:
    """What playing one channel found.

    Attributes:
        title: How people call the channel.
        commands: Commands played.
        completions: Completions compared.
        data: Ranges of data compared, by digest.
        seconds: How long it took.
        differences: The first of them.
        difference_count: How many there are.
        not_compared: Reasons for which something was not compared, and how often.
    """

    title: str
    commands: int = 0
    completions: int = 0
    data: int = 0
    seconds: float = 0.0
    differences: list[Difference] = field(default_factory=list)
    difference_count: int = 0
    not_compared: Counter[str] = field(default_factory=Counter)

    def add(self, found: Difference) -> None:
        """A difference was found."""
        self.difference_count += 1
        if len(self.differences) < _KEPT:
            self.differences.append(found)


@dataclass
class ReplayReport:
    """What a replay found, over all channels.

    Attributes:
        recording: The file.
        target: What it was played on.
        against: What it was compared with: "the recording", or another target.
        damage: Why the end of the recording is missing, or "".
        channels: By channel, in the order of the recording.
    """

    recording: str
    target: str
    against: str
    damage: str = ""
    channels: list[ChannelReport] = field(default_factory=list)

    @property
    def commands(self) -> int:
        """Commands played."""
        return sum(channel.commands for channel in self.channels)

    @property
    def difference_count(self) -> int:
        """Differences of all channels."""
        return sum(channel.difference_count for channel in self.channels)

    @property
    def first(self) -> Difference | None:
        """The first difference, in the order of channels."""
        found = [each for channel in self.channels for each in channel.differences]
        return found[0] if found else None

    def to_json(self) -> dict[str, Any]:
        """Everything, for machines."""
        return {
            **asdict(self),
            "commands": self.commands,
            "difference_count": self.difference_count,
        }

    def write_junit(self, path: Path) -> None:
        """Write a JUnit file: each channel is a test case."""
        suite = ElementTree.Element(
            "testsuite",
            name=f"replay of {Path(self.recording).name} on {self.target}",
            tests=str(len(self.channels)),
            failures=str(sum(bool(channel.differences) for channel in self.channels)),
        )
        for channel in self.channels:
            case = ElementTree.SubElement(
                suite, "testcase", name=channel.title, time=f"{channel.seconds:.3f}"
            )
            if channel.differences:
                text = "\n".join(str(each) for each in channel.differences)
                failure = ElementTree.SubElement(
                    case, "failure", message=str(channel.differences[0])
                )
                failure.text = text
        ElementTree.ElementTree(suite).write(path, encoding="utf-8", xml_declaration=True)
