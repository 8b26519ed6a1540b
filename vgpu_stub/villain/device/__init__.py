"""The hostile device: a VGPU-STUB that lies, and what the guest's side makes of it."""
