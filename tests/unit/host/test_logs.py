"""Messages that guests cause do not fill the host's disk."""

from __future__ import annotations

import logging

from vgpu_host.logs import RateLimit


def record() -> logging.LogRecord:
    return logging.LogRecord("test", logging.WARNING, __file__, 1, "refused %d", (7,), None)


def test_a_burst_passes_and_the_rest_is_kept_back() -> None:
    limit = RateLimit(burst=5, per_second=0.0)
    assert [limit.filter(record()) for _ in range(8)] == [True] * 5 + [False] * 3


def test_the_next_message_says_how_many_were_kept_back() -> None:
    limit = RateLimit(burst=1, per_second=0.0)
    for _ in range(4):
        limit.filter(record())
    limit._room = 1.0
    last = record()
    assert limit.filter(last)
    assert last.getMessage() == "refused 7 (3 messages before were kept back)"
