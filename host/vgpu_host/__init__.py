"""The host side of VGPU-STUB: ring drain, worker processes, executors and monitor."""
