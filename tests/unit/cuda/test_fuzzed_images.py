"""The fuzzer of the guest's image code: what it found once, and a short run with a new seed."""

from __future__ import annotations

import random
import re
import struct
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
#: First byte of an input, modulo 5: what it is; from 128 on the executor takes machine code.
FATBIN, CUBIN, MACHINE_FATBIN = 2, 3, 132
PTX, ELF = 1, 2


def fatbin(kind: int, payload: bytes) -> bytes:
    entry = struct.pack("<HHIQIIIIQQQQ", kind, 0, 64, len(payload), 0, 0, 0, 61, 0, 0, 0, 0)
    return bytes(16) + entry + payload


def cubin(names_offset: int, names_bytes: int, kind: int) -> bytes:
    header = bytearray(64)
    struct.pack_into("<Q", header, 40, 64)  # e_shoff
    struct.pack_into("<HHH", header, 58, 64, 1, 0)  # e_shentsize, e_shnum, e_shstrndx
    section = struct.pack("<IIQQQQIIQQ", 0, kind, 0, 0, names_offset, names_bytes, 0, 0, 0, 0)
    return bytes(header) + section


#: Read beyond the end of the image, before they were found.
REGRESSIONS = {
    "text of a fatbin that ends in a keyword": bytes([FATBIN]) + fatbin(PTX, b"ret;}  .entry  "),
    "text of a fatbin that ends in a name": bytes([FATBIN]) + fatbin(PTX, b".entry longname"),
    "machine code of a fatbin that is none": bytes([MACHINE_FATBIN]) + fatbin(ELF, b"\xff" * 64),
    "machine code of a fatbin that is short": bytes([MACHINE_FATBIN]) + fatbin(ELF, b"\x7fELF\x02"),
    "section names that take no room in the file": bytes([CUBIN]) + cubin(1 << 40, 999, 8),
}  # fmt: skip


@pytest.fixture(scope="module")
def fuzzer() -> Path:
    subprocess.run(["make", "-s", "-C", str(ROOT / "guest/cuda"), "fuzzers"], check=True)
    return ROOT / "guest/cuda/build/fuzz/images"


@pytest.mark.parametrize("name", REGRESSIONS)
def test_image_that_broke_the_parser_once(fuzzer: Path, tmp_path: Path, name: str) -> None:
    path = tmp_path / "input"
    path.write_bytes(REGRESSIONS[name])
    done = subprocess.run([fuzzer, path], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_short_campaign_finds_nothing(fuzzer: Path, tmp_path: Path) -> None:
    seed = str(random.randrange(10**9))
    done = subprocess.run(
        [fuzzer, "-s", "2", "-r", seed, "-c", tmp_path], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, f"seed {seed}: {done.stderr}"
    found = re.search(r"(\d+) cases in .* (\d+) edges, (\d+) inputs kept", done.stdout)
    assert found, done.stdout
    assert int(found[2]) > 100
