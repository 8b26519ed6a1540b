"""Executors carry out the commands of a channel: `software` on the CPU, `cuda` on a physical GPU."""
