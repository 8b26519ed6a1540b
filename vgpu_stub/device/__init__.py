"""The VGPU-STUB device model: registers, admin channel, channels, memory registrations, reset."""
