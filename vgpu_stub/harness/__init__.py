"""Devices and virtual machines for tests and commands: built, started, watched and ended."""
