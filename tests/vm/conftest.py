"""Options of the tests in guests."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--every-fault", action="store_true", help="run every fault on every kernel (test_faults)"
    )
