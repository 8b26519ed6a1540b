"""The guest's agent and the launcher's client, joined by a socket instead of a virtual machine.

The agent runs here as an ordinary process; only its last act, switching the machine off, is not
for tests (the agent itself refuses it unless it is the first process).
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from vgpu_qemu.agent_client import (
    AgentClient,
    AgentGoneError,
    CommandResult,
    CommandTimeoutError,
    Terminal,
)
from vgpu_qemu.agent_protocol import MAX_PAYLOAD, Decoder, Kind, ProtocolError, encode
from vgpu_qemu.errors import GuestError
from vgpu_qemu.guest_files import agent_files


class Pair:
    """An agent process and a client that talks to it."""

    def __init__(self, directory: Path) -> None:
        for target, source in agent_files().items():
            (directory / Path(target).name).symlink_to(source)
        ours, theirs = socket.socketpair()
        program = f"import agent; agent.Agent({theirs.fileno()}).run()"
        self.process = subprocess.Popen(
            [sys.executable, "-c", program], cwd=directory, pass_fds=[theirs.fileno()]
        )
        theirs.close()
        self.client = AgentClient(ours)
        self.client.wait_ready(10)


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    pair = Pair(tmp_path)
    yield pair
    pair.client.close()
    try:
        pair.process.wait(10)
    finally:
        pair.process.kill()
        pair.process.wait()


def test_status_and_both_streams_come_back(pair: Pair) -> None:
    argv = ["sh", "-c", "echo out; echo err >&2; exit 7"]
    assert pair.client.run(argv, cwd="/") == CommandResult(tuple(argv), 7, b"out\n", b"err\n")


def test_death_by_signal_is_128_and_its_number(pair: Pair) -> None:
    assert pair.client.run(["sh", "-c", "kill -9 $$"], cwd="/").status == 137


def test_input_environment_and_directory_reach_the_program(pair: Pair, tmp_path: Path) -> None:
    argv = ["sh", "-c", 'pwd; echo "$WORD"; cat']
    done = pair.client.run(argv, env={"WORD": "w"}, cwd=str(tmp_path), stdin=b"in")
    assert done.stdout == f"{tmp_path}\nw\nin".encode()


def test_megabytes_pass_both_ways_unchanged(pair: Pair) -> None:
    data = bytes(range(256)) * 20_000
    assert pair.client.run(["cat"], cwd="/", stdin=data).stdout == data


def test_program_that_ignores_its_input_does_not_block(pair: Pair) -> None:
    assert pair.client.run(["true"], cwd="/", stdin=bytes(1 << 20)).status == 0


def test_output_is_streamed_as_it_comes(pair: Pair, tmp_path: Path) -> None:
    fifo = tmp_path / "go"
    os.mkfifo(fifo)
    pieces: list[bytes] = []

    def take(data: bytes) -> None:
        pieces.append(data)
        if data == b"first\n":
            # The program goes on only after its first line has arrived here.
            fifo.write_text("go")

    done = pair.client.run(
        ["sh", "-c", f"echo first; cat {fifo} >/dev/null; echo second"], cwd="/", on_stdout=take
    )
    assert (b"".join(pieces), done.stdout) == (b"first\nsecond\n", b"")


def test_missing_program_is_refused_with_the_reason(pair: Pair) -> None:
    with pytest.raises(GuestError, match="cannot run no-such-program: No such file"):
        pair.client.run(["no-such-program"], cwd="/")
    assert pair.client.run(["true"], cwd="/").status == 0


def test_timeout_kills_the_whole_group_and_keeps_the_output(pair: Pair, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    line = f"echo begun; sleep 1000 & echo $! >{pid_file}; wait"
    with pytest.raises(CommandTimeoutError, match="did not end within 1 s") as caught:
        pair.client.run(["sh", "-c", line], cwd="/", timeout=1)
    assert caught.value.stdout == b"begun\n"
    wait_until_gone(int(pid_file.read_text()))
    assert pair.client.run(["echo", "alive"], cwd="/").stdout == b"alive\n"


def test_background_child_does_not_hold_up_the_end(pair: Pair) -> None:
    done = pair.client.run(["sh", "-c", "sleep 1000 & echo $!"], cwd="/", timeout=20)
    pid = int(done.stdout)
    os.kill(pid, 9)
    wait_until_gone(pid)


def test_commands_run_side_by_side(pair: Pair, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    results: list[bytes] = []
    reader = threading.Thread(
        target=lambda: results.append(pair.client.run(["cat", str(fifo)], cwd="/").stdout)
    )
    reader.start()
    pair.client.run(["sh", "-c", f"echo hello >{fifo}"], cwd="/", timeout=20)
    reader.join(20)
    assert results == [b"hello\n"]


def test_terminal_has_the_size_and_answers_keys(pair: Pair) -> None:
    line = "stty size; read word; echo got $word; test -t 0 && exit 3"
    session = pair.client.open(["sh", "-c", line], cwd="/", terminal=Terminal(40, 100))
    session.write(b"key\n")
    output = b""
    while (event := session.next(time.monotonic() + 20)) and event[0] != Kind.EXIT:
        output += event[1]
    assert event == (Kind.EXIT, (3).to_bytes(4, "little"))
    lines = output.replace(b"\r", b"").split(b"\n")
    # The terminal's echo of the key may come before or after the size.
    assert sorted(lines) == [b"", b"40 100", b"got key", b"key"]


def test_death_of_the_agent_ends_waiting_commands(pair: Pair) -> None:
    def kill_agent(data: bytes) -> None:
        os.kill(int(data), signal.SIGKILL)
        pair.process.kill()

    with pytest.raises(AgentGoneError, match="the guest ended while"):
        pair.client.run(
            ["sh", "-c", "echo $$; exec sleep 1000"], cwd="/", timeout=30, on_stdout=kill_agent
        )


def test_frames_survive_any_cut() -> None:
    stream = encode(Kind.STDOUT, 1, b"one") + encode(Kind.EXIT, 2, b"\0\0\0\0")
    decoder = Decoder()
    frames = [frame for byte in stream for frame in decoder.feed(bytes([byte]))]
    assert frames == [(Kind.STDOUT, 1, b"one"), (Kind.EXIT, 2, b"\0\0\0\0")]


def test_oversized_frame_is_refused() -> None:
    header = (MAX_PAYLOAD + 1).to_bytes(4, "little") + bytes(5)
    with pytest.raises(ProtocolError, match="at most 1048576"):
        list(Decoder().feed(header))


def wait_until_gone(pid: int, timeout: float = 10) -> None:
    """Wait until a process no longer runs (it may stay a zombie of the machine's first process)."""
    deadline = time.monotonic() + timeout
    status = Path(f"/proc/{pid}/stat")
    while time.monotonic() < deadline:
        try:
            if status.read_text().rsplit(")", 1)[1].split()[0] == "Z":
                return
        except (FileNotFoundError, ProcessLookupError):
            return
    raise AssertionError(f"process {pid} still runs after {timeout} s")
