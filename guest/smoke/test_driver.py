"""The driver: its attributes, its node, its ioctls and mappings, and what they refuse."""

import fcntl
import grp
import itertools
import mmap
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import vgpu_abi as abi
from vgpu_channel import IOCTL_INFO, MMAP_INFO, NODE, Channel, refusal


def test_the_device_is_live_and_without_error(attribute):
    assert attribute("state") == "live"
    assert int(attribute("status"), 0) == abi.STATUS_READY | abi.STATUS_ENABLED
    assert attribute("abi_version") == f"{abi.ABI_MAJOR}.{abi.ABI_MINOR}"
    assert attribute("error") == str(abi.DEVICE_ERROR_NONE)


def test_features_are_those_of_the_data_sheet(attribute):
    known = abi.FEATURE_EVENT_SUPPRESSION | abi.FEATURE_SCATTER_LIST
    assert int(attribute("features"), 0) & ~abi.FEATURE_SOFTWARE_GPU == known


@pytest.mark.parametrize(
    "name",
    ["reset_count", "error_count", "registered_bytes", "vectors", "interrupts", "doorbells"],
)
def test_counters_are_numbers(attribute, name):
    assert re.fullmatch(r"\d+", attribute(name)), f"{name} reads {attribute(name)!r}"


def test_register_accesses_are_counted(attribute):
    # Reading costs one; the driver's watchdog may look at the device between two readings.
    readings = [int(attribute("access_count")) for _ in range(6)]
    assert min(b - a for a, b in itertools.pairwise(readings)) == 1


def test_channels_in_use_are_counted(attribute):
    before, total = map(int, attribute("channels").split("/"))
    assert total == abi.CHANNEL_COUNT - 1
    with Channel():
        assert attribute("channels") == f"{before + 1}/{total}"
    assert attribute("channels") == f"{before}/{total}"


def test_the_node_is_for_the_group_render():
    status = Path(NODE).stat()
    assert stat.S_ISCHR(status.st_mode)
    assert f"{stat.S_IMODE(status.st_mode):o}" == "660"
    assert grp.getgrgid(status.st_gid).gr_name == "render"


@pytest.mark.parametrize(("groups", "outcome"), [(["render"], "opened"), ([], "EACCES")])
def test_only_members_of_render_can_open_it(groups, outcome):
    program = (
        "import errno, os\n"
        f"try: os.open({NODE!r}, os.O_RDWR); print('opened')\n"
        "except OSError as error: print(errno.errorcode[error.errno])\n"
    )
    done = subprocess.run(
        [sys.executable, "-ISc", program],
        user=65534,
        group=65534,
        extra_groups=groups,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == outcome


def test_channel_info_gives_version_and_sizes(channel):
    info = channel.info
    assert info.abi_version == abi.ABI_VERSION
    assert 1 <= info.channel < abi.CHANNEL_COUNT
    assert info.channel_bytes == abi.CHANNEL_STRIDE
    assert info.info_bytes == mmap.PAGESIZE
    assert (info.sq_entries, info.cq_entries) == (abi.SQ_ENTRIES, abi.CQ_ENTRIES)
    assert info.reserved == 0


def test_unknown_ioctl_is_refused(channel):
    assert refusal(fcntl.ioctl, channel.fd, IOCTL_INFO + 0x10, bytes(32)) == "ENOTTY"


def test_a_new_channel_is_ready_and_empty(channel):
    assert channel.word("state") == abi.CHANNEL_READY
    indexes = [channel.word(name) for name in ("sq_tail", "sq_head", "cq_tail", "cq_head")]
    assert indexes == [0, 0, 0, 0]


def test_the_info_page_describes_the_device(channel):
    with mmap.mmap(
        channel.fd, channel.info.info_bytes, prot=mmap.PROT_READ, offset=MMAP_INFO
    ) as page:
        fields = abi.DEVICE_INFO.unpack_from(page)
    info = dict(zip(abi.DEVICE_INFO_OFFSETS, fields, strict=False))
    assert info["magic"] == abi.MAGIC
    assert info["abi_version"] == abi.ABI_VERSION
    assert info["total_memory"] > 0
    assert info["executor"].rstrip(b"\0") in (b"software", b"cuda")
    assert info["name"].rstrip(b"\0")


STRIDE, PAGE = abi.CHANNEL_STRIDE, mmap.PAGESIZE
SHARED, PRIVATE = mmap.MAP_SHARED, mmap.MAP_PRIVATE
READ, READ_WRITE = mmap.PROT_READ, mmap.PROT_READ | mmap.PROT_WRITE


@pytest.mark.parametrize(
    ("what", "length", "offset", "flags", "prot", "error"),
    [
        ("two channels", 2 * STRIDE, 0, SHARED, READ_WRITE, "EINVAL"),
        ("half a channel", STRIDE // 2, 0, SHARED, READ_WRITE, "EINVAL"),
        ("the next channel", STRIDE, STRIDE, SHARED, READ_WRITE, "EINVAL"),
        ("a private copy", STRIDE, 0, PRIVATE, READ_WRITE, "EINVAL"),
        ("a writable info page", PAGE, MMAP_INFO, SHARED, READ_WRITE, "EACCES"),
        ("more than the info page", 2 * PAGE, MMAP_INFO, SHARED, READ, "EINVAL"),
    ],
)
def test_other_mappings_are_refused(channel, what, length, offset, flags, prot, error):
    def attempt():
        mmap.mmap(channel.fd, length, flags=flags, prot=prot, offset=offset).close()

    assert refusal(attempt) == error, f"mapping {what}"
