"""What can be wrong with a recording."""

from __future__ import annotations


class RecordingError(Exception):
    """A file is no recording, is damaged, or cannot be used; the text says which and where."""
