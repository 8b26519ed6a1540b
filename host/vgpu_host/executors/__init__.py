"""Executors carry out commands: `software` on the CPU, `cuda` on a physical GPU."""
