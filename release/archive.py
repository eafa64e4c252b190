"""Archives whose bytes follow from their content alone: sorted names, owner 0, one time for all, and a compressor
whose output does not depend on the machine."""

import hashlib
import io
import subprocess
import tarfile
from pathlib import Path


def sha256(content: bytes | Path) -> str:
    """The digest of bytes, or of a file."""
    return hashlib.sha256(content if isinstance(content, bytes) else content.read_bytes()).hexdigest()


def gzip(content: bytes) -> bytes:
    """By GNU gzip: Python's gzip module writes what the zlib of its machine makes, and there is more than one zlib."""
    return subprocess.run(["gzip", "--no-name", "-9"], input=content, stdout=subprocess.PIPE, check=True).stdout


class Tar:
    """A tar archive that is being written. Files must be added in the order in which they are to be read."""

    def __init__(self, out, epoch: int):
        self._tar = tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT)
        self._epoch = epoch

    def __enter__(self) -> "Tar":
        return self

    def __exit__(self, *_) -> None:
        self._tar.close()

    def add(self, name: str, content: bytes | Path, mode: int = 0o644) -> None:
        """Adds a file of bytes, or of another file's content."""
        entry = self._entry(name, mode)
        if isinstance(content, bytes):
            entry.size = len(content)
            self._tar.addfile(entry, io.BytesIO(content))
        else:
            entry.size = content.stat().st_size
            with content.open("rb") as file:
                self._tar.addfile(entry, file)

    def folder(self, name: str) -> None:
        """Adds a folder."""
        entry = self._entry(name, 0o755)
        entry.type = tarfile.DIRTYPE
        self._tar.addfile(entry)

    def _entry(self, name: str, mode: int) -> tarfile.TarInfo:
        # Owner and group are 0, and without names, by a TarInfo's defaults.
        entry = tarfile.TarInfo(name)
        entry.mode = mode
        entry.mtime = self._epoch
        return entry
