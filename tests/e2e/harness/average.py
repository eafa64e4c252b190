"""The numbers that the federated average must give, computed with nothing but a csv reader and a sum."""

import csv
from pathlib import Path

from .paths import DATA


def partial(file: Path, column: str) -> dict[str, float]:
    """What `partial_average` of the average algorithm answers for one organization's file."""
    with file.open(newline="") as rows:
        values = [float(row[column]) for row in csv.DictReader(rows) if row[column] != ""]
    return {"sum": sum(values), "count": len(values)}


def overall(partials: list[dict[str, float]]) -> float:
    """The average over all organizations, from their partial sums and counts."""
    return sum(each["sum"] for each in partials) / sum(each["count"] for each in partials)


def employee_files() -> list[Path]:
    """The example data: one file an organization."""
    return sorted(DATA.glob("employees-*.csv"))
