"""Links of the documents lead somewhere: to a file or folder that exists, and to a heading or an anchor in it. So do references from
the sources to a section of a page, which people follow from an error message."""

import os
import re
from itertools import count
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
CODE = re.compile(r"^```.*?^```$|^ {4}[^\n]*$|`[^`\n]*`", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(\s*([^)\s]+)\s*\)")
# As in an error message: docs/OPERATIONS.md, "Disks"
SECTION = re.compile(r'(docs/[A-Z]+\.md|README\.md), \\?"([^"\\]+)\\?"')


def files(*endings: str) -> list[Path]:
    """The repository's own files with these endings, without what was built or downloaded."""
    found = []
    for folder, folders, names in os.walk(REPOSITORY):
        folders[:] = [each for each in folders if each != "target" and not each.startswith(".")]
        found += [Path(folder) / name for name in names if name.endswith(endings)]
    return sorted(found)


def headings(page: str) -> list[str]:
    text = re.sub(r"^```.*?^```$", "", page, flags=re.MULTILINE | re.DOTALL)
    return [line.lstrip("#").strip() for line in text.splitlines() if re.match(r"#{1,6} ", line)]


def slug(heading: str) -> str:
    """The anchor that GitHub derives from a heading."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
    return re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")


def anchors(page: str) -> set[str]:
    found = set(re.findall(r'<a id="([^"]+)">', page))
    for heading in headings(page):
        name = slug(heading)
        found.add(next(each for each in (name if n == 0 else f"{name}-{n}" for n in count()) if each not in found))
    return found


def broken(page: Path, text: str) -> list[str]:
    """The links of a page that lead nowhere. Other hosts are not asked."""
    wrong = []
    for target in LINK.findall(CODE.sub("", text)):
        if re.match(r"[a-z][a-z0-9+.-]*:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (anchor and (file.suffix != ".md" or anchor not in anchors(file.read_text()))):
            wrong.append(target)
    return wrong


@pytest.mark.parametrize("page", files(".md"), ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_links_lead_somewhere(page):
    assert broken(page, page.read_text()) == []


def test_sections_named_by_sources_exist():
    named = {match for file in files(".rs", ".py", ".yaml", ".tpl") for match in SECTION.findall(file.read_text())}
    assert named
    wrong = []
    for page, section in named:
        text = (REPOSITORY / page).read_text()
        bold = [each.rstrip(".:") for each in re.findall(r"\*\*([^*]+)\*\*", text)]
        if slug(section) not in anchors(text) and section not in bold:
            wrong.append((page, section))
    assert wrong == []


@pytest.mark.parametrize(
    ("link", "expected"),
    [
        ("[a](docs/OPERATIONS.md)", []),
        ("[a](docs/OPERATIONS.md#disks)", []),
        ("[a](#two-of-them), [b](#two-of-them-1), [c](#two-of-them-2)", ["#two-of-them-2"]),
        ("[a](#code-and-more), [b](https://example.org/x), [c](docs)", []),
        ("[a](docs/MISSING.md)", ["docs/MISSING.md"]),
        ("[a](docs/OPERATIONS.md#no-such-heading)", ["docs/OPERATIONS.md#no-such-heading"]),
        ("`[a](docs/MISSING.md)`\n\n    [b](docs/MISSING.md)\n", []),
        ("    a block of code\n\n[`a`](docs/MISSING.md)\n", ["docs/MISSING.md"]),
    ],
)
def test_broken_links_are_found(tmp_path, link, expected):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "OPERATIONS.md").write_text("# Operations\n\n## Disks\n")
    page = tmp_path / "README.md"
    page.write_text(f"# Two of them\n\n## Two of them\n\n## `code` and, more\n\n{link}\n")
    assert broken(page, page.read_text()) == expected
