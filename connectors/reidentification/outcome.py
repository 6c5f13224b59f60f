"""What an attack reached, with the uncertainty of its count."""

from __future__ import annotations

import math
from dataclasses import dataclass

_Z = 1.959964  # 95 %, two-sided


@dataclass(frozen=True, slots=True)
class Outcome:
    """One attack. Of `tried` targets (`of`: people, values), `succeeded` were hit: a sum of chances where the
    attacker has to guess among several. `baseline` is the share that he hits without the release."""

    attack: str
    tried: int
    succeeded: float
    of: str = "people"
    baseline: float = 0.0

    @property
    def rate(self) -> float:
        """Share of the targets that were hit."""
        return self.succeeded / self.tried if self.tried else 0.0

    @property
    def gain(self) -> float:
        """How much more than the baseline; never below 0."""
        return max(0.0, self.rate - self.baseline)

    @property
    def interval(self) -> tuple[float, float]:
        """Lower and upper end of the 95 % confidence interval of the rate (Wilson 1927); (0, 1) untried."""
        if not self.tried:
            return 0.0, 1.0
        n, p, z = self.tried, self.rate, _Z
        middle = (p + z * z / (2 * n)) / (1 + z * z / n)
        half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        return max(0.0, middle - half), min(1.0, middle + half)

    @property
    def worst(self) -> float:
        """Upper end of the interval, less the baseline; never below 0."""
        return max(0.0, self.interval[1] - self.baseline)
