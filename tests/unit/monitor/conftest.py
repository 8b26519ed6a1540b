"""Snapshots with chosen numbers, as the tests of the commands have them."""

from tests.unit.cli.conftest import channel, server

__all__ = ["channel", "server"]
