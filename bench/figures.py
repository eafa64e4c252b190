"""Figures from repeated measurements: medians and means with the smallest and the largest, and ratios of what was measured in turns."""

import statistics
from dataclasses import dataclass, field


@dataclass
class Series:
    """One thing measured several times."""

    name: str
    unit: str
    values: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def mean(self) -> float:
        return statistics.fmean(self.values)

    def __str__(self) -> str:
        spread = f"{min(self.values):.2f} – {max(self.values):.2f}"
        return f"{self.name:56} {self.median:8.2f} {self.unit:3} ({spread}, mean {self.mean:.2f}, n={len(self.values)})"


def verdict(what: str, value: float, goal: float, unit: str = "", at_least: bool = False) -> str:
    """A line that says whether a goal is met."""
    met, bound = (value >= goal, "at least") if at_least else (value <= goal, "at most")
    return f"  {'✓' if met else '✗'} {what}: {value:.2f}{unit} (goal: {bound} {goal:g}{unit})"


def ratio(ours: Series, theirs: Series) -> float:
    """The ratio of the means."""
    return ours.mean / theirs.mean
