"""Methods that tell what an algorithm sees of the place it runs in: its rights, environment, files and databases."""

import os
from pathlib import Path

import pandas as pd
from vantage6.algorithm.tools.decorators import data

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io")


def whoami() -> dict:
    """Who the process is, what it may, and what it sees. The tools have decoded the environment before this runs."""
    status = dict(
        line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":\t" in line
    )
    return {
        "uid": os.getuid(),
        "gid": os.getgid(),
        "capabilities": status["CapEff"],
        "bounding": status["CapBnd"],
        "no_new_privileges": status["NoNewPrivs"] == "1",
        "seccomp": int(status["Seccomp"]),
        "environment": dict(os.environ),
        "service_account": SERVICE_ACCOUNT.exists(),
        "tmp": tmp_list(),
        "data": _listing(Path("/mnt/data")),
        "hosts": Path("/etc/hosts").read_text(),
        "resolv_conf": Path("/etc/resolv.conf").read_text(),
        "mounts": [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()],
    }


def tmp_list() -> list[str]:
    """What is in the folder that the runs of a job share."""
    return _listing(_tmp())


def tmp_write(name: str, text: str) -> str:
    """Writes a file there; its path."""
    path = _tmp() / name
    path.write_text(text)
    return str(path)


def tmp_read(name: str) -> str | None:
    """The text of a file there, or nothing when there is no such file."""
    path = _tmp() / name
    return path.read_text() if path.exists() else None


def database_info() -> list[dict]:
    """What the environment tells of each database that the task asked for, and whether its file could be written."""
    found = []
    for label in _labels():
        prefix = label.upper() + "_"
        told = {name.removeprefix(prefix): value for name, value in os.environ.items() if name.startswith(prefix)}
        uri = told.get("DATABASE_URI", "")
        path = Path(uri)
        found.append(
            {
                "label": label,
                "variables": told,
                "is_file": path.is_file(),
                "is_folder": path.is_dir(),
                "writable": os.access(path, os.W_OK),
                "bytes": path.stat().st_size if path.is_file() else None,
                "listing": _listing(path) if path.is_dir() else None,
            }
        )
    return found


def read_databases(number: int = 1) -> list[dict]:
    """The shape of each of that many databases, as the tools load them (with query, sheet and preprocessing)."""

    @data(number)
    def shapes(*frames: pd.DataFrame) -> list[dict]:
        # The tools put each further frame in front of the ones before.
        return [{"rows": len(frame), "columns": [str(column) for column in frame.columns]} for frame in reversed(frames)]

    return shapes()


def _tmp() -> Path:
    return Path(os.environ.get("TEMPORARY_FOLDER", "/mnt/tmp"))


def _labels() -> list[str]:
    return [label for label in os.environ.get("USER_REQUESTED_DATABASE_LABELS", "").split(",") if label]


def _listing(folder: Path) -> list[str]:
    """All files and folders beneath, as paths relative to it; empty when it isn't there or may not be read."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*")) if folder.is_dir() else []
