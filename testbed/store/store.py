"""Starts the real vantage6 algorithm store (4.15.2, from PyPI) as one process, with SQLite.

    store.py CONFIG PORT IMAGE=sha256:…

The store asks the registry of an image for its digest, when an algorithm is added and at each look. Here there is no registry: the digest
of the one image is given.
"""

import enum
import sys

from gevent import monkey

monkey.patch_all()

# On Python 3.11 and newer the text of a (str, Enum) member is no longer its value; the store was written for 3.10.
enum.Enum.__format__ = lambda self, spec: format(str(self.value) if isinstance(self, str) else str(self), spec)

from gevent.pywsgi import WSGIServer
from vantage6.algorithm.store import run_server
from vantage6.algorithm.store.resource import algorithm


def main(config: str, port: str, known: str) -> None:
    image, digest = known.split("=", 1)
    store = run_server(config, system_folders=False)
    # A name that has a digest has that one.
    algorithm.get_digest = lambda asked, **_: asked.partition("@")[2] or (digest if asked == image else None)
    WSGIServer(("127.0.0.1", int(port)), store.app, log=None).serve_forever()


main(*sys.argv[1:])
