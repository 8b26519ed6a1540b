"""Recordings of what guests did to a device: the file, its records, and how workers feed it."""
