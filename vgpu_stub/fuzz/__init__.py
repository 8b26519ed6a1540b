"""Structure-aware fuzzing of device, drain, parsers and driver: `vgpu-stub fuzz`.

A target makes sequences of operations from a seed, carries them out on the real code, and checks
after each one what must always hold. Sequences run in child processes; what fails is made small
and written down as a pytest file.
"""
