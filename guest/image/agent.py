"""The agent: first process of the guest; runs what the launcher asks for.

It speaks `agent_protocol` over a virtio-serial port: starts programs with pipes or with a terminal,
carries their streams, reports how they end, and switches the machine off. One thread, one loop.
It imports little: under emulation each module costs milliseconds of every boot.
"""

# Hence no pathlib, which alone would cost more than the rest of the start:
# ruff: noqa: PTH123, PTH208, SIM115

from __future__ import annotations

import errno
import fcntl
import json
import os
import select
import signal
import struct
import sys
import termios

from agent_protocol import CHUNK, PORT_NAME, Decoder, Kind, encode

#: ioctls of linux/random.h: add bytes that count as random, and use them at once.
RNDADDENTROPY = 0x40085203
RNDRESEEDCRNG = 0x5207

DEFAULT_ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "USER": "root",
    "SHELL": "/bin/bash",
    "TERM": "dumb",
}


class Program:
    """A started program and the ends of its streams that the agent holds."""

    def __init__(self, pid, stdin, outputs):
        self.pid = pid
        self.stdin = stdin
        self.outputs = outputs
        self.pending = bytearray()
        self.input_ended = False
        self.status = None


class Agent:
    """The loop between the port and the programs."""

    def __init__(self, port):
        self.port = port
        self.decoder = Decoder()
        self.programs = {}
        self.poll = select.poll()
        self.readers = {}
        self.writers = {}
        self.wakeup, wakeup_writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wakeup_writer, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def run(self):
        """Serve until told to switch off."""
        uptime = float(open("/proc/uptime").read().split()[0])
        self.send(Kind.HELLO, 0, json.dumps({"uptime": uptime}).encode())
        self.poll.register(self.port, select.POLLIN)
        self.poll.register(self.wakeup, select.POLLIN)
        while True:
            for descriptor, events in self.poll.poll():
                if descriptor == self.port:
                    self.receive()
                elif descriptor == self.wakeup:
                    os.read(self.wakeup, 4096)
                    self.reap()
                elif descriptor in self.readers:
                    self.read_output(descriptor)
                elif descriptor in self.writers:
                    self.write_input(self.writers[descriptor], events)

    def send(self, kind, session, payload=b""):
        """Send one frame; the port takes it all or blocks."""
        data = memoryview(encode(kind, session, payload))
        while data:
            data = data[os.write(self.port, data) :]

    def receive(self):
        """Act on what the launcher sent."""
        data = os.read(self.port, CHUNK)
        if not data:
            switch_off()
        for kind, session, payload in self.decoder.feed(data):
            program = self.programs.get(session)
            if kind == Kind.START:
                self.start(session, json.loads(payload))
            elif kind == Kind.POWER_OFF:
                switch_off()
            elif kind == Kind.RESEED:
                reseed(payload)
            elif program is None:
                continue
            elif kind == Kind.STDIN:
                program.pending += payload
                program.input_ended = program.input_ended or not payload
                self.write_input(session, select.POLLOUT)
            elif kind == Kind.SIGNAL:
                signal_group(program.pid, payload[0])
            elif kind == Kind.RESIZE:
                resize(program.stdin, json.loads(payload))

    def start(self, session, request):
        """Start a program, or say why not."""
        try:
            spawn = spawn_on_terminal if request.get("terminal") else spawn_with_pipes
            program = spawn(request)
        except OSError as error:
            reason = f"{request['argv'][0]}: {error.strerror or error}"
            self.send(Kind.REFUSED, session, reason.encode())
            return
        self.programs[session] = program
        for descriptor, kind in program.outputs.items():
            self.readers[descriptor] = (session, kind)
            self.poll.register(descriptor, select.POLLIN)
        os.set_blocking(program.stdin, False)

    def read_output(self, descriptor):
        """Pass on output; at its end, and the program's, report the exit."""
        session, kind = self.readers[descriptor]
        try:
            data = os.read(descriptor, CHUNK)
        except BlockingIOError:
            return
        except OSError as error:
            # A terminal whose last user has gone reads as EIO.
            if error.errno != errno.EIO:
                raise
            data = b""
        if data:
            self.send(kind, session, data)
            return
        program = self.programs[session]
        self.poll.unregister(descriptor)
        del self.readers[descriptor], program.outputs[descriptor]
        if descriptor != program.stdin:
            os.close(descriptor)
        self.finish(session)

    def write_input(self, session, events):
        """Write as much pending input as the program takes."""
        program = self.programs.get(session)
        if program is None or program.stdin is None:
            return
        try:
            while program.pending and not events & select.POLLERR:
                written = os.write(program.stdin, program.pending)
                del program.pending[:written]
        except BlockingIOError:
            if program.stdin not in self.writers and program.stdin not in self.readers:
                self.writers[program.stdin] = session
                self.poll.register(program.stdin, select.POLLOUT)
            return
        except OSError:
            program.pending.clear()
            events |= select.POLLERR
        if program.stdin in self.writers:
            self.poll.unregister(program.stdin)
            del self.writers[program.stdin]
        if (program.input_ended or events & select.POLLERR) and program.stdin not in self.readers:
            os.close(program.stdin)
            program.stdin = None

    def reap(self):
        """Collect children that ended, ours and orphans."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            for session, program in list(self.programs.items()):
                if program.pid == pid:
                    code = os.waitstatus_to_exitcode(status)
                    program.status = code if code >= 0 else 128 - code
                    self.drain(session)

    def drain(self, session):
        """Read what an ended program left; what its children write later is not waited for."""
        program = self.programs[session]
        for descriptor in list(program.outputs):
            os.set_blocking(descriptor, False)
            while descriptor in program.outputs:
                before = select.poll()
                before.register(descriptor, select.POLLIN)
                if not before.poll(0):
                    break
                self.read_output(descriptor)
        if session in self.programs:
            for descriptor in list(program.outputs):
                self.poll.unregister(descriptor)
                del self.readers[descriptor], program.outputs[descriptor]
                if descriptor != program.stdin:
                    os.close(descriptor)
            self.finish(session)

    def finish(self, session):
        """Report the exit once the program has ended and its output is through."""
        program = self.programs.get(session)
        if program is None or program.status is None or program.outputs:
            return
        if program.stdin is not None:
            if program.stdin in self.writers:
                self.poll.unregister(program.stdin)
                del self.writers[program.stdin]
            os.close(program.stdin)
        del self.programs[session]
        self.send(Kind.EXIT, session, struct.pack("<I", program.status))


def spawn_with_pipes(request):
    """Start a program with a pipe for each standard stream."""
    stdin_read, stdin_write = os.pipe2(os.O_CLOEXEC)
    stdout_read, stdout_write = os.pipe2(os.O_CLOEXEC)
    stderr_read, stderr_write = os.pipe2(os.O_CLOEXEC)
    theirs = (stdin_read, stdout_write, stderr_write)
    try:
        pid = spawn(request, theirs)
    except OSError:
        for descriptor in (stdin_write, stdout_read, stderr_read):
            os.close(descriptor)
        raise
    finally:
        for descriptor in theirs:
            os.close(descriptor)
    return Program(pid, stdin_write, {stdout_read: Kind.STDOUT, stderr_read: Kind.STDERR})


def spawn_on_terminal(request):
    """Start a program on a new terminal of its own."""
    ours, theirs = os.openpty()
    resize(ours, request["terminal"])
    try:
        pid = spawn(request, (theirs, theirs, theirs), terminal=True)
    except OSError:
        os.close(ours)
        raise
    finally:
        os.close(theirs)
    return Program(pid, ours, {ours: Kind.STDOUT})


def spawn(request, streams, terminal=False):
    """Fork and execute; raises what the child's preparation or exec raised."""
    report_read, report_write = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)
            os.setsid()
            if terminal:
                fcntl.ioctl(streams[0], termios.TIOCSCTTY, 0)
            for number, descriptor in enumerate(streams):
                os.dup2(descriptor, number)
            os.chdir(request.get("cwd") or "/root")
            environment = {**DEFAULT_ENVIRONMENT, **request.get("env", {})}
            os.execvpe(request["argv"][0], request["argv"], environment)
        except OSError as error:
            os.write(report_write, struct.pack("<I", error.errno))
        finally:
            os._exit(127)
    os.close(report_write)
    with os.fdopen(report_read, "rb") as report:
        failure = report.read()
    if failure:
        number = struct.unpack("<I", failure)[0]
        raise OSError(number, os.strerror(number))
    return pid


def signal_group(pid, number):
    """Signal a program and what it started in its session's group."""
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        return


def resize(descriptor, size):
    """Set a terminal's size."""
    if descriptor is not None:
        packed = struct.pack("<HHHH", size["rows"], size["columns"], 0, 0)
        fcntl.ioctl(descriptor, termios.TIOCSWINSZ, packed)


def reseed(randomness):
    """Begin the kernel's random numbers anew; what is only written would count minutes later."""
    with open("/dev/urandom", "wb") as device:
        packed = struct.pack("ii", 8 * len(randomness), len(randomness)) + randomness
        fcntl.ioctl(device, RNDADDENTROPY, packed)
        fcntl.ioctl(device, RNDRESEEDCRNG)


def switch_off():
    """Let programs end, then power off; never returns."""
    if os.getpid() != 1:
        # Outside a guest, as in tests: what follows would end every process of the machine.
        raise SystemExit(0)
    import ctypes
    import time

    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.kill(-1, number)
        except ProcessLookupError:
            break
        deadline = time.monotonic() + 1
        while time.monotonic() < deadline:
            try:
                if os.waitpid(-1, os.WNOHANG)[0] == 0:
                    time.sleep(0.01)
            except ChildProcessError:
                break
    os.sync()
    ctypes.CDLL(None).reboot(0x4321FEDC)
    sys.exit("power-off failed")


def open_port():
    """Open the launcher's port; which device it is, sysfs tells (no udev runs)."""
    directory = "/sys/class/virtio-ports"
    for name in os.listdir(directory):
        with open(f"{directory}/{name}/name") as file:
            if file.read().strip() == PORT_NAME:
                return os.open(f"/dev/{name}", os.O_RDWR | os.O_CLOEXEC)
    raise SystemExit(f"no virtio port named {PORT_NAME}")


if __name__ == "__main__":
    Agent(open_port()).run()
