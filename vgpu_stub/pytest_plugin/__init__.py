"""The pytest plugin: devices, virtual machines and programs on the device as fixtures."""
