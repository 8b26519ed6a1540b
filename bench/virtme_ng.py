"""Time from command to result of `uname -r` in a guest: ours, with the device, and virtme-ng's.

Both boot the same Debian kernel with the same QEMU, emulated, with two processors and 1 GiB, by
turns. virtme-ng is Debian's package, run as root of a file system of Debian packages that is its
own: there it finds udev, kmod and virtiofsd as on a machine on which it is installed.

    python bench/virtme_ng.py [--pairs 5] [--kernel 6.12]

Prints one JSON object; `ratio` is ours by virtme-ng's, of medians, where less is better.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from vgpu_qemu.binary import find_qemu
from vgpu_qemu.cache import Cache
from vgpu_qemu.kernels import Kernel, find_kernel
from vgpu_qemu.packages import TRIXIE, Archive
from vgpu_qemu.progress import Progress, console_progress
from vgpu_qemu.runtime import Runtime, fetch_runtime

_DEADLINE = 300
_PACKAGES = [
    *("virtme-ng", "virtiofsd", "busybox-static", "kmod", "udev", "file", "ca-certificates"),
    *("bash", "coreutils", "dash", "findutils", "grep", "sed", "mount", "util-linux", "procps"),
    *("hostname", "iproute2", "systemd-sysv", "base-files", "base-passwd", "libc-bin", "python3"),
]


def debian_root(cache: Cache, progress: Progress) -> tuple[Runtime, Runtime]:
    """A Debian with virtme-ng in it, and bubblewrap, which enters it."""
    archive = Archive(TRIXIE, cache=cache, progress=progress)
    debian = fetch_runtime("virtme-ng-root", _PACKAGES, archive, cache)
    return debian, fetch_runtime("sandbox", ["bubblewrap"], archive, cache)


def prepare_kernel(kernel: Kernel, tools: Runtime, folder: Path) -> None:
    """Copy the image and modules, and write the modules' index, as its package would have."""
    assert kernel.modules_dir is not None, "a kernel of Debian has modules"
    modules = folder / "lib/modules" / kernel.release
    shutil.copytree(kernel.modules_dir, modules, ignore=shutil.ignore_patterns("build", "source"))
    (folder / "boot").mkdir()
    shutil.copy(kernel.vmlinuz, folder / f"boot/vmlinuz-{kernel.release}")
    kmod = [str(tools.loader), *tools.command(tools.root / "usr/bin/kmod")[1:]]
    kmod[kmod.index("--argv0") + 1] = "depmod"
    subprocess.run([*kmod, "-b", str(folder), kernel.release], check=True)


def virtme_command(
    kernel: Kernel, folder: Path, debian: Runtime, sandbox: Runtime, cache: Cache
) -> list[str]:
    """The command that boots with virtme-ng in its own Debian."""
    root = debian.root
    qemu = find_qemu(cache=cache)
    wrapper = folder / "qemu-system-x86_64"
    settings = " ".join(f"{name}='{value}'" for name, value in qemu.environment.items())
    words = " ".join(f"'{word}'" for word in qemu.command)
    wrapper.write_text(f'#!/bin/sh\n{settings} exec {words} "$@"\n')
    wrapper.chmod(0o755)
    certificates = folder / "ca-certificates.crt"
    certificates.write_bytes(
        b"".join(path.read_bytes() for path in root.glob("usr/share/ca-certificates/*/*.crt"))
    )
    options = ["--die-with-parent", "--unshare-user", "--uid", "0", "--gid", "0", "--tmpfs", "/"]
    for name in ("usr", "etc", "var"):
        options += ["--overlay-src", str(root / name), "--tmp-overlay", f"/{name}"]
    for name in ("bin", "sbin", "lib", "lib64"):
        options += ["--symlink", f"usr/{name}", f"/{name}"]
    options += ["--dev-bind", "/dev", "/dev", "--proc", "/proc", "--tmpfs", "/tmp", "--tmpfs"]
    options += ["/run", "--dir", "/sys", "--dir", "/root", "--dir", "/home", "--dir", "/opt"]
    options += ["--dir", "/srv", "--dir", "/mnt"]
    options += ["--bind", str(folder / "boot"), "/boot"]
    options += ["--bind", str(folder / "lib/modules"), "/usr/lib/modules"]
    options += ["--ro-bind", str(cache.path("runtime", "")), str(cache.path("runtime", ""))]
    options += ["--ro-bind", str(wrapper), "/usr/local/bin/qemu-system-x86_64"]
    options += ["--ro-bind", str(certificates), "/etc/ssl/certs/ca-certificates.crt"]
    options += ["--clearenv", "--setenv", "PATH", "/usr/local/bin:/usr/sbin:/usr/bin"]
    options += ["--setenv", "HOME", "/root", "--setenv", "LANG", "C.UTF-8", "--chdir", "/root"]
    vng = ["vng", "-r", f"/boot/vmlinuz-{kernel.release}", "--disable-kvm", "--cpus", "2"]
    vng += ["--memory", "1G", "--", "uname", "-r"]
    return [*sandbox.command(sandbox.root / "usr/bin/bwrap"), *options, "--", *vng]


def seconds(command: list[str], release: str) -> float:
    """How long a command takes that prints the release."""
    start = time.monotonic()
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_DEADLINE,
        check=False,
    )
    taken = time.monotonic() - start
    if done.returncode or release not in done.stdout:
        output = (done.stdout + done.stderr)[-3000:]
        raise SystemExit(f"{command[-3:]} ended with {done.returncode}:\n{output}")
    return taken


def main() -> None:
    """Run both by turns."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--kernel", default="6.12")
    arguments = parser.parse_args()
    cache = Cache()
    with console_progress() as progress, tempfile.TemporaryDirectory(prefix="virtme-") as name:
        kernel = find_kernel(arguments.kernel, cache=cache, progress=progress)
        debian, sandbox = debian_root(cache, progress)
        folder = Path(name)
        prepare_kernel(kernel, debian, folder)
        theirs = virtme_command(kernel, folder, debian, sandbox, cache)
        ours = [sys.executable, "-c", "from vgpu_stub.cli.main import app; app()", "vm"]
        ours += ["--kernel", arguments.kernel, "--image", "base", "--executor", "software"]
        ours += ["--accel", "tcg", "--cpus", "2", "--memory", "1024", "--", "uname", "-r"]
        seconds(ours, kernel.release)  # builds what is missing
        pairs = []
        for number in range(arguments.pairs):
            pair = (seconds(ours, kernel.release), seconds(theirs, kernel.release))
            pairs.append(pair)
            progress(f"{number + 1}: ours {pair[0]:.2f} s, virtme-ng {pair[1]:.2f} s", None)
    medians = [statistics.median(times) for times in zip(*pairs, strict=True)]
    print(
        json.dumps(
            {
                "kernel": kernel.release,
                "ours_s": [round(pair[0], 2) for pair in pairs],
                "virtme_ng_s": [round(pair[1], 2) for pair in pairs],
                "ratio": round(medians[0] / medians[1], 3),
            }
        )
    )


if __name__ == "__main__":
    main()
