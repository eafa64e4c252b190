#!/usr/bin/env python3
"""The version, which stands in several files: version.py show | notes | set NUMBER | check TAG

notes  prints what CHANGELOG.md has about the version
set    writes NUMBER wherever the version stands, and gives the unreleased changes of CHANGELOG.md that heading
check  fails unless TAG is v and the version, and nothing in CHANGELOG.md is unreleased; for the workflow that releases
"""

import re
import sys
from datetime import date
from pathlib import Path

import changes

REPOSITORY = Path(__file__).resolve().parent.parent
NUMBER = re.compile(r"\d+\.\d+\.\d+(-rc\.\d+)?")
CHART = "charts/sextant/Chart.yaml"
CHART_LINES = ("\nversion: @\n", "\nappVersion: @\n")
# Examples name the image with its version: `sextant:0.1.0`, or `tag: 0.1.0` in the chart's values.
EXAMPLES = ("README.md", "docs/*.md", "charts/sextant/README.md", "examples/config/*.yaml")
EXAMPLE = re.compile(r"(?P<before>\bsextant:|\btag: )(?P<number>\d+\.\d+\.\d+(-rc\.\d+)?)\b")


def read(name: str) -> str:
    """A file of the repository."""
    return (REPOSITORY / name).read_text()


def current() -> str:
    """The version in Cargo.toml."""
    return re.search(r'^version = "(.+)"$', read("Cargo.toml"), re.MULTILINE)[1]


def examples() -> list[str]:
    """The files with examples."""
    return [str(each.relative_to(REPOSITORY)) for pattern in EXAMPLES for each in sorted(REPOSITORY.glob(pattern))]


def mistakes() -> list[str]:
    """The places where the version is another one than in Cargo.toml."""
    number = current()
    found = [
        f"{CHART} has no line {line.replace('@', number).strip()!r}"
        for line in CHART_LINES
        if line.replace("@", number) not in read(CHART)
    ]
    for name in examples():
        found += [f"{name} has {each[0]!r}" for each in EXAMPLE.finditer(read(name)) if each["number"] != number]
    if (newest := changes.newest(read("CHANGELOG.md"))) != number:
        found.append(f"the newest version in CHANGELOG.md is {newest}")
    return [f"the version in Cargo.toml is {number}, but {each}" for each in found]


def change(new: str) -> None:
    """Sets the version everywhere."""
    old = current()
    if not NUMBER.fullmatch(new):
        sys.exit(f"error: {new} is no version, such as 1.2.3 or 1.2.3-rc.1")
    if found := mistakes():
        sys.exit("error: " + "; ".join(found))
    texts = {name: EXAMPLE.sub(rf"\g<before>{new}", read(name)) for name in examples()}
    texts[CHART] = read(CHART)
    for line in CHART_LINES:
        texts[CHART] = texts[CHART].replace(line.replace("@", old), line.replace("@", new))
    texts["Cargo.toml"] = read("Cargo.toml").replace(f'\nversion = "{old}"\n', f'\nversion = "{new}"\n', 1)
    # The workspace's own crates are those without a source.
    texts["Cargo.lock"] = re.sub(rf'(\nversion = )"{re.escape(old)}"\n(?!source)', rf'\1"{new}"\n', read("Cargo.lock"))
    heading = f"## [{changes.UNRELEASED}]\n"
    texts["CHANGELOG.md"] = read("CHANGELOG.md").replace(heading, f"{heading}\n## [{new}] - {date.today()}\n", 1)
    for name, text in texts.items():
        (REPOSITORY / name).write_text(text)


def check(tag: str) -> None:
    """Fails unless this is what the tag says."""
    found = mistakes()
    if tag != f"v{current()}":
        found.append(f"the tag is {tag}, but the version in Cargo.toml is {current()}")
    if changes.sections(read("CHANGELOG.md")).get(changes.UNRELEASED):
        found.append("CHANGELOG.md has unreleased changes: run release/version.py set, which gives them a version")
    if found:
        sys.exit("error: " + "; ".join(found))


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["show"]:
            print(current())
        case ["notes"]:
            print(changes.sections(read("CHANGELOG.md"))[current()])
        case ["set", number]:
            change(number)
        case ["check", tag]:
            check(tag)
        case _:
            sys.exit(__doc__)
