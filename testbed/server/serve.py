"""Starts the real vantage6 server (4.x, from PyPI) as one process.

    serve.py CONFIG.yaml PORT [--polling-only] [--cheap-hashes] [--with-parent PID]

--polling-only   offer long polling but no websocket, as a server without a websocket library does
--cheap-hashes   hash passwords and API keys with little work: a node's login tries the key on every node's hash, a quarter of a second
                 each, which is long where every test has made nodes
--with-parent    end when the process PID, which started this one, is gone
"""

# The server monkey-patches too, but late: after modules that keep a reference to the real sockets.
from gevent import monkey

monkey.patch_all()

import argparse
import enum
import functools
import logging
import os
import sys
import threading
import time
import types

# 4.5.5 was written for Python 3.10. Since 3.11 f"{member}" of a (str, Enum) no longer gives the value, and every permission
# check of the server then fails with an AttributeError ("c_glo").
enum.Enum.__format__ = lambda self, spec: format(
    str(self.value) if isinstance(self, str) else str(self), spec
)


def end_with(parent: int) -> None:
    """Ends this process once `parent` is no longer its parent (it may have been killed without a chance to clean up)."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(0)


def mend_kill_of_a_nodes_tasks() -> None:
    """4.5.5 looks for the right to kill all tasks of a node among the rights for tasks, where there is none: it always fails."""
    from vantage6.server.resource import event

    made = event.KillNodeTasks.__init__

    def make(self, *arguments, **named) -> None:
        made(self, *arguments, **named)
        self.r = getattr(self.permissions, event.module_name)

    event.KillNodeTasks.__init__ = make


def mend_questions_to_stores() -> None:
    """Servers from 4.6 on name themselves to an algorithm store in a header `server_url`, and gevent, as nginx does, drops names of headers
    with underscores: the store then answers only if it is public. So it comes under the name that the store looks for, too."""
    try:
        from vantage6.server import algo_store_communication as stores

        ask = stores._execute_algo_store_request
    except (ImportError, AttributeError):
        return

    def ask_by_name(store, server, endpoint, method, force, headers=None, *more, **named):
        return ask(store, server, endpoint, method, force, (headers or {}) | {"Server-Url": server.rstrip("/")}, *more, **named)

    stores._execute_algo_store_request = ask_by_name


def mend_uploads_in_chunks() -> None:
    """Servers from 4.13 on read uploads to a blob store that come in chunks by uWSGI. gevent's server undoes the chunks by itself."""
    try:
        from vantage6.server.resource import blobstream
    except ImportError:
        return

    def chunked_read(size: int = 4096) -> bytes:
        from flask import request

        return request.environ["wsgi.input"].read(size)

    # Only there: with a module `uwsgi` in sys.modules Socket.IO would believe that it runs under uWSGI, and serve nothing.
    blobstream.uwsgi = types.SimpleNamespace(chunked_read=chunked_read)


def make_hashes_cheap() -> None:
    """The least work that bcrypt allows: 2^4 rounds, in place of 2^12."""
    import bcrypt

    bcrypt.gensalt = functools.partial(bcrypt.gensalt, 4)


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("config")
    arguments.add_argument("port", type=int)
    arguments.add_argument("--polling-only", action="store_true")
    arguments.add_argument("--cheap-hashes", action="store_true")
    arguments.add_argument("--with-parent", type=int)
    options = arguments.parse_args()

    if options.with_parent:
        threading.Thread(target=end_with, args=(options.with_parent,), daemon=True).start()
    if options.polling_only:
        # The library looks as if it were not installed: Flask-SocketIO then starts a plain WSGI server.
        sys.modules["geventwebsocket"] = None

    if options.cheap_hashes:
        make_hashes_cheap()

    logging.basicConfig(level=logging.INFO)
    from vantage6.server import run_dev_server, run_server

    mend_kill_of_a_nodes_tasks()
    mend_questions_to_stores()
    mend_uploads_in_chunks()
    server = run_server(options.config, system_folders=False)
    if options.polling_only:
        # Engine.IO has a second library to fall back on, which came with it; without it, it says this to the clients.
        server.socketio.server.eio.transports = ["polling"]
        server.socketio.server.eio.allow_upgrades = False
    run_dev_server(server, "0.0.0.0", options.port)


main()
