"""CHANGELOG.md, as programs read it: its versions, and what changed in one."""

import re

KINDS = ("Added", "Changed", "Deprecated", "Removed", "Fixed", "Security")
UNRELEASED = "Unreleased"
HEADING = re.compile(r"^## \[(?P<version>[^\]]+)\](?: - (?P<date>\d{4}-\d{2}-\d{2}))?$", re.MULTILINE)


def sections(text: str) -> dict[str, str]:
    """The text below each version's heading, newest first, beginning with what is not released."""
    found = list(HEADING.finditer(text))
    ends = [each.start() for each in found[1:]] + [len(text)]
    return {each["version"]: text[each.end() : end].strip() for each, end in zip(found, ends)}


def newest(text: str) -> str:
    """The newest version that has a number."""
    return next(each for each in sections(text) if each != UNRELEASED)


def entries(section: str) -> list[tuple[str, str]]:
    """The bullets of a section with their kind: ("added", "Metrics of runs."). Text between them is for people."""
    found: list[tuple[str, str]] = []
    kind = None
    for line in section.splitlines():
        if line.startswith("### "):
            kind = line.removeprefix("### ")
        elif kind in KINDS and line.startswith("- "):
            found.append((kind.lower(), line.removeprefix("- ").strip()))
        elif kind in KINDS and line.startswith("  ") and found:
            found[-1] = (found[-1][0], f"{found[-1][1]} {line.strip()}")
    return found
