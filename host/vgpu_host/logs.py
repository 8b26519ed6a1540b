"""Logging of the host's processes: to standard error, at the level in `VGPU_STUB_LOG`."""

from __future__ import annotations

import logging
import os
from typing import Final

VARIABLE: Final = "VGPU_STUB_LOG"
_LEVELS: Final = ("debug", "info", "warning", "error")


def configure_logging(process: str) -> None:
    """Log to standard error; an unknown level is said once and taken as "warning"."""
    level = os.environ.get(VARIABLE, "warning").lower()
    known = level in _LEVELS
    logging.basicConfig(
        level=level.upper() if known else logging.WARNING,
        format=f"%(asctime)s {process}[%(process)d] %(levelname)s %(message)s",
    )
    if not known:
        logging.warning("%s is %r; choose from %s", VARIABLE, level, ", ".join(_LEVELS))
