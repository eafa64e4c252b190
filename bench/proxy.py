"""make bench-proxy: our proxy, the regular node's (vantage6-node 4.5.5), and nginx's proxy_pass, each in front of the same upstream.

    proxy.py PYTHON-OF-THE-REGULAR-NODE [--rounds 5] [--seconds 4]

The three take turns (A B C A B C …), so that a slow moment of the machine hits all. The upstream is an nginx that answers with a task's
JSON at once; the load is wrk's, with an algorithm's token and 16 connections. Every request has a path of its own, so that ours can't
answer several together: what it does with the same question is measured apart. All write an access log.
"""

import argparse
import base64
import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests" / "e2e")]

from figures import Series, ratio, verdict  # noqa: E402
from harness.node import free_port  # noqa: E402
from harness.paths import binary  # noqa: E402
from harness.services import started  # noqa: E402

CONNECTIONS = 16
TASK = {"id": 7, "name": "partial average", "status": "active", "runs": [{"id": each, "link": f"/api/run/{each}"} for each in range(9)]}
NGINX = """
daemon off;
worker_processes auto;
pid {directory}/{name}.pid;
error_log {directory}/{name}.error;
events {{ worker_connections 1024; }}
http {{
    access_log {directory}/{name}.log combined buffer=32k;
    client_body_temp_path {directory}/{name}.body;
    proxy_temp_path {directory}/{name}.temp;
    fastcgi_temp_path {directory}/{name}.fastcgi;
    uwsgi_temp_path {directory}/{name}.uwsgi;
    scgi_temp_path {directory}/{name}.scgi;
    keepalive_requests 1000000000;
    {http}
}}
"""
UPSTREAM = """
    server {{ listen 127.0.0.1:{port} reuseport; location / {{ default_type application/json; return 200 '{answer}'; }} }}
"""
PASSING = """
    upstream server {{ server 127.0.0.1:{upstream}; keepalive 64; keepalive_requests 1000000000; }}
    server {{
        listen 127.0.0.1:{port} reuseport;
        location / {{ proxy_pass http://server/api/; proxy_http_version 1.1; proxy_set_header Connection ""; }}
    }}
"""
LUA = """
local number = 0
local token = os.getenv("TOKEN")
function setup(thread) offset = (offset or 0) + 1; thread:set("offset", offset) end
function request()
    number = number + 1
    return wrk.format("GET", os.getenv("SAME") and "/task/7" or ("/task/" .. offset .. number), {["Authorization"] = token})
end
"""


def token() -> str:
    """A header as algorithms send it; nobody checks its signature here."""
    identity = {"client_type": "container", "node_id": 3, "organization_id": 2, "collaboration_id": 1, "task_id": 7}
    claims = {"type": "access", "client_type": "container", "sub": identity, "iat": 1700000000}
    parts = [base64.urlsafe_b64encode(json.dumps(each).encode()).decode().rstrip("=") for each in ({"alg": "HS256"}, claims)]
    return f"Bearer {'.'.join([*parts, 'x' * 43])}"


def nginx(directory: Path, name: str, http: str, port: int, **values):
    """An nginx of this name."""
    file = directory / f"{name}.conf"
    file.write_text(NGINX.format(directory=directory, name=name, http=http.format(port=port, **values)))
    return started(port, ["nginx", "-p", directory, "-c", file, "-e", directory / f"{name}.error"])


def load(port: int, seconds: float, script: Path, same: bool = False) -> float:
    """Requests a second that were answered well."""
    environment = os.environ | {"TOKEN": token()} | ({"SAME": "1"} if same else {})
    command = ["wrk", "-t2", f"-c{CONNECTIONS}", f"-d{seconds:g}s", "-s", script, f"http://127.0.0.1:{port}/"]
    out = subprocess.run([str(each) for each in command], env=environment, capture_output=True, text=True, check=True).stdout
    if bad := re.search(r"Non-2xx.*|Socket errors.*", out):
        sys.exit(f"the load went wrong: {bad.group()}\n{out}")
    return float(re.search(r"Requests/sec:\s*([\d.]+)", out).group(1))


def memory(process: subprocess.Popen, peak: bool = True) -> float:
    """Megabytes of memory that it holds, or held at most."""
    text = Path(f"/proc/{process.pid}/status").read_text()
    return int(re.search(rf"{'VmHWM' if peak else 'VmRSS'}:\s*(\d+)", text).group(1)) * 1024 / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("regular", help="the Python that has vantage6-node 4.5.5")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4)
    arguments = parser.parse_args()

    with contextlib.ExitStack() as ends:
        directory = Path(tempfile.mkdtemp(prefix="sextant-bench-"))
        ends.callback(shutil.rmtree, directory, ignore_errors=True)
        script = directory / "load.lua"
        script.write_text(LUA)
        upstream, ours, theirs, passing = (free_port() for _ in range(4))
        ends.enter_context(nginx(directory, "upstream", UPSTREAM, upstream, answer=json.dumps(TASK)))
        ends.enter_context(nginx(directory, "passing", PASSING, passing, upstream=upstream))
        config = directory / "proxy.yaml"
        config.write_text(
            f"{{server_url: http://127.0.0.1, port: {upstream}, kubernetes: {{proxy: {{listen: '127.0.0.1:{ours}'}}}}}}"
        )
        log = ends.enter_context((directory / "access.log").open("wb"))
        sextant = ends.enter_context(started(ours, [binary(), "proxy", config], stdout=log, stderr=subprocess.DEVNULL))
        server = f"http://127.0.0.1:{upstream}/api"
        command = [arguments.regular, ROOT / "bench" / "regular_proxy.py", theirs, server]
        regular = ends.enter_context(started(theirs, command, stderr=subprocess.DEVNULL))
        time.sleep(1)
        idle = memory(sextant)

        series = {
            ours: Series("Sextant's proxy", "/s"),
            passing: Series("nginx 1.22, proxy_pass", "/s"),
            theirs: Series("the regular node's proxy, 4.5.5", "/s"),
            upstream: Series("the upstream without a proxy", "/s"),
        }
        for port in series:
            load(port, 1, script)
        for _ in range(arguments.rounds):
            for port, one in series.items():
                one.values.append(load(port, arguments.seconds, script))
        same = Series("Sextant's proxy, always the same question", "/s")
        same.values.append(load(ours, arguments.seconds, script, same=True))

        print(f"requests at {CONNECTIONS} connections, {len(TASK['runs'])} runs a task")
        for one in [*series.values(), same]:
            print(f"  {one}")
        print(f"  memory of Sextant's proxy: {idle:.1f} MB idle, {memory(sextant):.1f} MB at most; of the regular node's: {memory(regular):.0f} MB")
        verdicts = [
            verdict("times the regular node's proxy", ratio(series[ours], series[theirs]), 50, at_least=True),
            verdict("of nginx", ratio(series[ours], series[passing]), 0.7, at_least=True),
            verdict("memory at most", memory(sextant), 20, " MB"),
        ]
        print("\n".join(verdicts))


if __name__ == "__main__":
    main()
