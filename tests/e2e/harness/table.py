"""The fault matrix's report: what each cell took, or how it ended."""

from .faults import FAULTS
from .steps import STEPS

# A test's `record_property` of this name is a cell: step, fault, seconds.
CELL = "cell"


def of_reports(reports: list) -> str:
    """A table in Markdown: a row for each fault, a column for each step; seconds from the fault's beginning to the researcher's result. Empty
    when no cell was tried."""
    cells: dict[tuple[str, str], str] = {}
    for report in reports:
        for name, value in report.user_properties:
            if name == CELL:
                step, fault, seconds = value
                cells[step, fault] = f"{seconds} s" if report.passed else "FAILED"
    if not cells:
        return ""
    rows = [["", *STEPS], ["-"] * (len(STEPS) + 1)]
    rows += [[fault, *(cells.get((step, fault), "") for step in STEPS)] for fault in FAULTS]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["| " + " | ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) + " |" for row in rows]
    lines[1] = lines[1].replace(" ", "-")
    failed = sum(each == "FAILED" for each in cells.values())
    return "\n".join([*lines, "", f"{len(cells)} cells, {failed} failed"])
