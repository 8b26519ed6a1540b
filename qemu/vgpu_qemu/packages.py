"""Debian packages without installing them: found, verified, fetched and unpacked in the cache.

apt does the work with a configuration of its own (sources, lists, keyring, empty package status),
so the machine's package state is neither used nor changed, and any distribution that has apt and
Debian's archive keyring will do. The machine's mirror and proxy settings are respected.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vgpu_qemu.cache import Cache, content_key
from vgpu_qemu.errors import PackageError
from vgpu_qemu.progress import Progress, silent

MIRROR_VARIABLE = "VGPU_STUB_DEBIAN_MIRROR"
EXPIRED_VARIABLE = "VGPU_STUB_ALLOW_EXPIRED_RELEASE"
DEFAULT_MIRROR = "http://deb.debian.org/debian"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_LISTS_FRESH_SECONDS = 6 * 3600
_PRIVATE_DIRECTORIES = (
    "etc/apt/apt.conf.d",
    "etc/apt/preferences.d",
    "etc/apt/sources.list.d",
    "etc/apt/trusted.gpg.d",
    "var/lib/apt/lists/partial",
    "var/lib/dpkg",
    "var/cache/apt/archives/partial",
)


def debian_mirror(apt_directory: Path = Path("/etc/apt")) -> str:
    """Return the base URL of the Debian archive to use, without a trailing slash.

    `VGPU_STUB_DEBIAN_MIRROR` wins; else the first Debian archive in the machine's apt sources
    (either format); else Debian's own.
    """
    if explicit := os.environ.get(MIRROR_VARIABLE):
        return explicit.rstrip("/")
    files = [apt_directory / "sources.list", *sorted(apt_directory.glob("sources.list.d/*"))]
    for file in files:
        if file.suffix in {".list", ".sources"} and file.is_file():
            for uri in _uris(file):
                if re.fullmatch(r"(https?|file|copy)://\S*/debian/?", uri):
                    return uri.rstrip("/")
    return DEFAULT_MIRROR


def _uris(file: Path) -> list[str]:
    text = file.read_text(encoding="utf-8", errors="replace")
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    if file.suffix == ".sources":
        fields = (line.split(":", 1) for line in lines if line.lower().startswith("uris:"))
        return [uri for _, value in fields for uri in value.split()]
    entries = (re.match(r"deb\s+(?:\[[^]]*\]\s+)?(\S+)\s", line) for line in lines)
    return [entry.group(1) for entry in entries if entry]


def proxy_settings(dump: str) -> dict[str, str]:
    """Pick from `apt-config dump` what this network needs: proxies, certificates, time-outs."""
    wanted = re.compile(
        r'^(Acquire::(?:http|https|ftp)::(?:Proxy\S*|CaInfo|CaPath|Timeout)) "(.+)";$', re.MULTILINE
    )
    return dict(wanted.findall(dump))


@dataclass(frozen=True)
class Suites:
    """Which part of the Debian archive to look in.

    Attributes:
        names: Suites such as `trixie`; the last one is preferred where versions differ.
        architecture: Debian's name of the processor architecture.
        components: Parts of the suites, such as `contrib` for free software that needs what is not.
    """

    names: tuple[str, ...]
    architecture: str = "amd64"
    components: tuple[str, ...] = ("main",)


TRIXIE = Suites(("trixie",))
TRIXIE_BACKPORTS = Suites(("trixie", "trixie-backports"))
BOOKWORM = Suites(("bookworm",))
SID = Suites(("sid",), components=("main", "contrib"))


class Archive:
    """Packages of some suites of the Debian archive.

    Args:
        suites: Where to look.
        cache: Where lists are kept.
        allow_expired: Accept a Release file past its Valid-Until date (an old mirror); otherwise
            only when `VGPU_STUB_ALLOW_EXPIRED_RELEASE=1`.
        progress: Told about updates and downloads.

    Raises:
        PackageError: apt or the archive's keyring is missing.
    """

    def __init__(
        self,
        suites: Suites,
        *,
        cache: Cache | None = None,
        allow_expired: bool = False,
        progress: Progress = silent,
    ) -> None:
        for tool in ("apt-get", "apt-cache", "dpkg-deb"):
            if shutil.which(tool) is None:
                raise PackageError(f"{tool} is missing: fetching packages needs Debian or Ubuntu")
        if not KEYRING.is_file():
            raise PackageError(
                f"{KEYRING} is missing, so downloads could not be verified; "
                "install it: apt-get install debian-archive-keyring"
            )
        self.suites = suites
        self._cache = cache or Cache()
        self._progress = progress
        self._allow_expired = allow_expired or os.environ.get(EXPIRED_VARIABLE) == "1"
        self._mirror = debian_mirror()
        self._lock = "apt-" + content_key(
            self._mirror, suites.names, suites.architecture, suites.components
        )
        self._root = self._cache.root / "apt" / self._lock

    def names(self, pattern: str) -> list[str]:
        """Return the names of all packages that match a regular expression in whole."""
        out = self._run("apt-cache", "pkgnames")
        return sorted(name for name in out.split() if re.fullmatch(pattern, name))

    def version(self, name: str) -> str:
        """Return the version of a package that would be fetched."""
        out = self._run("apt-cache", *self._preference(), "policy", name)
        found = re.search(r"Candidate: (\S+)", out)
        if found is None or found.group(1) == "(none)":
            raise PackageError(f"no package {name} in {self._where()}")
        return found.group(1)

    def depends(self, name: str) -> list[str]:
        """Return the direct dependencies of a package, first alternatives only."""
        out = self._run("apt-cache", "show", "--no-all-versions", name)
        found = re.search(r"^Depends: (.*)$", out, re.MULTILINE)
        clauses = found.group(1).split(",") if found else []
        return [clause.split("|")[0].split("(")[0].strip() for clause in clauses]

    def closure(self, names: Sequence[str]) -> list[str]:
        """Return `name=version` of the packages and everything that they depend on."""
        out = self._run("apt-get", *self._preference(), "install", "--simulate", *names)
        return [
            f"{name}={version}"
            for name, version in re.findall(r"^Inst (\S+) \((\S+) ", out, re.MULTILINE)
        ]

    def fetch(self, packages: Sequence[str], directory: Path, *, what: str) -> list[Path]:
        """Download packages (no dependencies) and return their verified `.deb` files.

        Args:
            packages: `name` or `name=version` each.
            directory: Where the files go; created when missing.
            what: Named in the progress report.
        """
        directory.mkdir(parents=True, exist_ok=True)
        with self._cache.lock(self._lock):
            self._ready()
            reader, writer = os.pipe()
            command = ["apt-get", *self._preference(), "-o", f"APT::Status-Fd={writer}"]
            process = subprocess.Popen(
                [*command, "download", *packages],
                cwd=directory,
                env=self._environment(),
                pass_fds=(writer,),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
            os.close(writer)
            with process, os.fdopen(reader, encoding="utf-8", errors="replace") as status:
                for line in status:
                    kind, _, rest = line.partition(":")
                    if kind == "dlstatus":
                        self._progress(f"fetching {what}", float(rest.split(":")[1]) / 100)
                errors = process.stderr.read() if process.stderr else ""
        if process.returncode != 0:
            raise PackageError(f"download of {what} from {self._mirror} failed:\n{errors.strip()}")
        return sorted(directory.glob("*.deb"))

    def unpack(self, packages: Sequence[str], directory: Path, *, what: str) -> None:
        """Download packages and unpack their files under a directory, running none of them."""
        with self._cache.scratch() as scratch:
            files = self.fetch(packages, scratch, what=what)
            for number, file in enumerate(files):
                self._progress(f"unpacking {what}", number / len(files))
                unpack_deb(file, directory)

    def sources(self) -> list[str]:
        """Return the lines of a `sources.list` for these suites."""
        expired = " check-valid-until=no" if self._allow_expired else ""
        options = f"[arch={self.suites.architecture} signed-by={KEYRING}{expired}]"
        components = " ".join(self.suites.components)
        return [f"deb {options} {self._mirror} {suite} {components}" for suite in self.suites.names]

    def _run(self, *command: str) -> str:
        with self._cache.lock(self._lock):
            self._ready()
            return self._apt(*command)

    def _apt(self, *command: str) -> str:
        done = subprocess.run(
            command,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise PackageError(f"{shlex.join(command[:6])} failed:\n{done.stderr.strip()}")
        return done.stdout

    def _preference(self) -> tuple[str, ...]:
        return ("--target-release", self.suites.names[-1])

    def _where(self) -> str:
        return f"{', '.join(self.suites.names)} of {self._mirror}"

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "APT_CONFIG": str(self._root / "apt.conf"), "LC_ALL": "C"}

    def _ready(self) -> None:
        """Write the configuration and fetch the lists unless they are recent."""
        stamp = self._root / "updated"
        sources = "".join(f"{line}\n" for line in self.sources())
        sources_file = self._root / "etc/apt/sources.list"
        if (
            stamp.exists()
            and time.time() - stamp.stat().st_mtime < _LISTS_FRESH_SECONDS
            and sources_file.read_text(encoding="utf-8") == sources
        ):
            return
        for name in _PRIVATE_DIRECTORIES:
            (self._root / name).mkdir(parents=True, exist_ok=True)
        (self._root / "var/lib/dpkg/status").touch()
        sources_file.write_text(sources, encoding="utf-8")
        (self._root / "apt.conf").write_text(self._configuration(), encoding="utf-8")
        self._progress(f"reading package lists of {self._where()}", None)
        try:
            self._apt("apt-get", "update", "--error-on=any")
        except PackageError as error:
            raise PackageError(_explain_update(str(error), self._mirror)) from error
        stamp.touch()

    def _configuration(self) -> str:
        dump = subprocess.run(
            ["apt-config", "dump"], capture_output=True, text=True, check=True
        ).stdout
        settings = {
            "Dir": f"{self._root}/",
            "Dir::State::status": f"{self._root}/var/lib/dpkg/status",
            "APT::Architecture": self.suites.architecture,
            "APT::Architectures": self.suites.architecture,
            "APT::Install-Recommends": "false",
            "APT::Get::Assume-Yes": "true",
            "APT::Sandbox::User": "root",
            "Acquire::GzipIndexes": "true",
            "Acquire::Languages": "none",
            "Acquire::Retries": "3",
            "Debug::NoLocking": "true",
            **proxy_settings(dump),
        }
        return "".join(f'{name} "{value}";\n' for name, value in settings.items())


def unpack_deb(file: Path, directory: Path) -> None:
    """Unpack the files of one `.deb` under a directory."""
    directory.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        ["dpkg-deb", "--extract", str(file), str(directory)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise PackageError(f"unpacking {file.name} failed: {done.stderr.strip()}")


def _explain_update(message: str, mirror: str) -> str:
    if "is expired" in message or "Valid-Until" in message:
        return (
            f"{mirror} serves an expired package list (or this machine's clock is wrong); "
            f"set {EXPIRED_VARIABLE}=1 to accept it all the same\n{message}"
        )
    if "NO_PUBKEY" in message:
        return f"{KEYRING} is too old for {mirror}; update debian-archive-keyring\n{message}"
    return f"{message}\nSet {MIRROR_VARIABLE} to a Debian mirror that this machine reaches."
