"""Every CUDA call of a program as it happens: what `vgpu-stub trace` shows."""
