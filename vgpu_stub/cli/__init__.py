"""The `vgpu-stub` command."""
