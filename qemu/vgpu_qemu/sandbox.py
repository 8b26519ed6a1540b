"""Programs of a guest image without a virtual machine: its files as root, this machine's kernel.

bubblewrap puts the image's system directories where the program expects them and leaves the
machine's own temporary files, devices and current directory in place. It keeps nobody in: what the
program may do is what the user may do.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from vgpu_qemu.cache import Cache
from vgpu_qemu.errors import ImageError
from vgpu_qemu.image import image_tree
from vgpu_qemu.packages import TRIXIE, Archive
from vgpu_qemu.progress import Progress, silent
from vgpu_qemu.runtime import fetch_runtime

_OWN = ("dev", "proc", "sys", "tmp", "run", "var", "home", "root", "mnt", "media", "srv")
"""Directories of the root that are not the image's."""
_SEARCH_PATH = "/usr/local/bin:/usr/bin:/usr/sbin:/bin:/sbin"


class Sandbox:
    """A guest image that programs of this machine can be started in.

    Args:
        variant: Which image.
        cache: Where images and programs are kept.
        progress: Told about long steps.

    Raises:
        ImageError: There is no such image, or this machine lets nobody enter it.
        PackageError: Packages could not be had.
    """

    def __init__(
        self, variant: str, *, cache: Cache | None = None, progress: Progress = silent
    ) -> None:
        cache = cache or Cache()
        self.tree = image_tree(variant, cache=cache, progress=progress)
        archive = Archive(TRIXIE, cache=cache, progress=progress)
        tools = fetch_runtime("sandbox", ["bubblewrap"], archive, cache)
        self._bubblewrap = tools.command(tools.root / "usr/bin/bwrap")
        self._check()

    def _check(self) -> None:
        done = subprocess.run(
            self.command(["true"], {}), capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise ImageError(
                "this machine does not let a program have a root directory of its own"
                f" ({done.stderr.strip() or f'status {done.returncode}'}): allow user namespaces"
                " (sysctl kernel.unprivileged_userns_clone=1,"
                " kernel.apparmor_restrict_unprivileged_userns=0), or use a virtual machine"
            )

    def command(
        self,
        program: Sequence[str],
        environment: Mapping[str, str],
        shown: Sequence[Path] = (),
    ) -> list[str]:
        """Return the command line that runs a program in the image.

        Args:
            program: The program and its arguments.
            environment: Variables to set beside those of this process.
            shown: Directories of this machine that the program sees at their own place, beside the
                current one, the temporary ones and those of users.
        """
        options = ["--die-with-parent", "--tmpfs", "/"]
        for entry in sorted(self.tree.iterdir()):
            if entry.is_symlink():
                options += ["--symlink", str(entry.readlink()), f"/{entry.name}"]
            elif entry.is_dir() and entry.name not in _OWN:
                options += ["--ro-bind", str(entry), f"/{entry.name}"]
        options += ["--dev-bind", "/dev", "/dev", "--proc", "/proc"]
        for name in ("sys", "tmp", "run", "home", "root", "mnt", "media", "srv", "var/tmp"):
            options += ["--bind-try", f"/{name}", f"/{name}"]
        for path in (*shown, Path.cwd()):
            if not path.is_relative_to("/usr"):
                options += ["--bind", str(path), str(path)]
        options += ["--chdir", str(Path.cwd())]
        for name, value in {"PATH": _SEARCH_PATH, **environment}.items():
            options += ["--setenv", name, value]
        return [*self._bubblewrap, *options, "--", *program]
