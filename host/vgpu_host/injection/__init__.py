"""Faults in a worker: what each kind does to commands, completions and guest memory."""
