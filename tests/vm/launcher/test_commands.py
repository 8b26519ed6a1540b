"""What can be done in a running guest."""

from __future__ import annotations

from pathlib import Path

import pytest

from vgpu_qemu import CommandResult, CommandTimeoutError, GuestError, Vm

pytestmark = pytest.mark.vm


def test_status_and_output_of_a_command(vm: Vm) -> None:
    done = vm.run(["sh", "-c", "echo out; echo err >&2; exit 7"], timeout=60)
    expected = ("sh", "-c", "echo out; echo err >&2; exit 7")
    assert done == CommandResult(expected, 7, b"out\n", b"err\n")


def test_guest_runs_the_debian_kernel_with_a_root_that_can_be_written(vm: Vm) -> None:
    done = vm.run("uname -r; touch /usr/x && stat -c %F /usr/x; id -un", timeout=60)
    release, kind, user = done.stdout.decode().splitlines()
    assert release.startswith("6.12.")
    assert (kind, user) == ("regular empty file", "root")


def test_overlay_is_part_of_the_root(vm: Vm) -> None:
    assert vm.run(["tool"], timeout=60).stdout == b"the tool ran\n"
    assert vm.run("test -L /bin", timeout=60).status == 0


def test_shared_folder_works_both_ways(vm: Vm, shared_folder: Path) -> None:
    done = vm.run("cat /mnt/host/from-host; echo hello host >/mnt/host/from-guest", timeout=60)
    assert done.check().stdout == b"hello guest\n"
    assert (shared_folder / "from-guest").read_text() == "hello host\n"


def test_file_comes_back_as_it_was_put(vm: Vm, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(bytes(range(256)) * 4096)
    source.chmod(0o750)
    vm.put(source, "/root/new directory/file")
    assert vm.run(["stat", "-c", "%a", "/root/new directory/file"]).stdout == b"750\n"
    vm.get("/root/new directory/file", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == source.read_bytes()


def test_directory_comes_back_as_it_was_put(vm: Vm, tmp_path: Path) -> None:
    (tmp_path / "tree" / "sub").mkdir(parents=True)
    (tmp_path / "tree" / "sub" / "file").write_text("x")
    vm.put(tmp_path / "tree", "/root/tree")
    vm.get("/root/tree", tmp_path / "back")
    assert (tmp_path / "back" / "sub" / "file").read_text() == "x"


def test_missing_guest_file_is_an_error(vm: Vm, tmp_path: Path) -> None:
    with pytest.raises(GuestError, match="No such file"):
        vm.get("/root/none", tmp_path / "none")


def test_command_past_its_time_is_killed_and_the_guest_goes_on(vm: Vm) -> None:
    with pytest.raises(CommandTimeoutError, match="within 1 s"):
        vm.run("sleep 1000", timeout=1)
    assert vm.run("pgrep -x sleep", timeout=60).status == 1


def test_qmp_answers(vm: Vm) -> None:
    assert vm.qmp.execute("query-status") == {"status": "running", "running": True}


def test_device_node_group_of_the_image(vm: Vm) -> None:
    done = vm.run("getent group render; id -Gn user", timeout=60)
    assert done.stdout.decode() == "render:x:105:user\nuser render\n"
