"""How PTX is to be translated: one value, which shapes the code and so names it in the cache."""

from __future__ import annotations

from dataclasses import dataclass, field

from .profiles import DEFAULT_PROFILE, PROFILES, Profile


@dataclass(frozen=True, slots=True)
class Translation:
    """What is asked of the translator, beyond that the code be right.

    Attributes:
        profile: The device that the code runs on.
        checks: Checkers that watch the kernel: "mem", "race", "sync".
        general: Keep to scalars and vectors, without what is known of lanes in a row: slower, and
            simple enough to compare the other code with.
        count: Count how often each block of the flow graph runs, for the fidelity report.
    """

    profile: Profile = field(default_factory=lambda: PROFILES[DEFAULT_PROFILE])
    checks: frozenset[str] = frozenset()
    general: bool = False
    count: bool = False

    @property
    def uses_rows(self) -> bool:
        """Whether code may make use of lanes in a row; the race checker looks at each lane."""
        return not self.general and "race" not in self.checks
