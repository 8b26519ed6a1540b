"""The matrix: one command over kernels, executors, device profiles, faults and images."""
