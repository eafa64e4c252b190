"""A real python-socketio server for the tests: does on demand what servers do, and tells on stdout what it sees.

Each line of stdout is one JSON object. The first is {"listening": <port>}.
"""

import argparse
import sys

options = argparse.ArgumentParser()
options.add_argument("--mode", choices=["gevent", "threading"], default="gevent")
options.add_argument("--port", type=int, default=0)
options.add_argument("--polling-only", action="store_true")
options.add_argument("--ping-interval", type=float, default=25)
options.add_argument("--ping-timeout", type=float, default=60)
options.add_argument("--tls", help="folder of cert.pem and key.pem (gevent only)")
options = options.parse_args()

if options.mode == "gevent":
    from gevent import monkey

    monkey.patch_all()

import json  # noqa: E402
import logging  # noqa: E402
import threading  # noqa: E402

import socketio  # noqa: E402

said = threading.Lock()


def say(**what):
    with said:
        sys.stdout.write(json.dumps(what) + "\n")
        sys.stdout.flush()


class Tasks(socketio.Namespace):
    def on_connect(self, sid, environ, auth=None):
        token = environ.get("HTTP_AUTHORIZATION")
        say(connect=sid, token=token, auth=auth)
        if token == "Bearer refused":
            raise socketio.exceptions.ConnectionRefusedError("no entry", {"code": 7})
        # Before the client is told that it is connected, as vantage6 does.
        self.emit("sync", room=sid)

    def on_disconnect(self, sid):
        say(disconnect=sid)

    def on_echo(self, sid, *args):
        say(echo=len(json.dumps(args)))
        self.emit("echo", args, room=sid)
        return args

    def on_silent(self, sid, *args):
        say(silent=args[0] if args else None)

    def on_ask(self, sid, question):
        self.emit("question", question, room=sid, callback=lambda *answer: say(answer=answer))

    def on_binary(self, sid):
        self.emit("binary", {"first": b"\x00\x01\xff", "second": b"two", "text": "é"}, room=sid)

    def on_burst(self, sid, count, size):
        for number in range(count):
            self.emit("burst", (number, "x" * size), room=sid)

    def on_transport(self, sid):
        return self.server.eio.transport(self.server.manager.eio_sid_from_sid(sid, "/tasks"))

    def on_leave(self, sid):
        self.server.disconnect(sid, namespace="/tasks")

    def on_last_words(self, sid):
        self.emit("last_words", room=sid)
        self.server.disconnect(sid, namespace="/tasks")


server = socketio.Server(
    async_mode=options.mode,
    allow_upgrades=not options.polling_only,
    ping_interval=options.ping_interval,
    ping_timeout=options.ping_timeout,
)
server.register_namespace(Tasks("/tasks"))
app = socketio.WSGIApp(server)

if options.mode == "gevent":
    from gevent.pywsgi import WSGIServer

    tls = {"certfile": f"{options.tls}/cert.pem", "keyfile": f"{options.tls}/key.pem"} if options.tls else {}
    listener = WSGIServer(("127.0.0.1", options.port), app, log=None, **tls)
    listener.start()
    say(listening=listener.server_port)
    listener.serve_forever()
else:
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    listener = make_server("127.0.0.1", options.port, app, threaded=True)
    say(listening=listener.server_port)
    listener.serve_forever()
