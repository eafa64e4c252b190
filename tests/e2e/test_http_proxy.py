"""The way to the server leads through the organization's HTTP proxy, which the environment names: a real one (tinyproxy) that wants a
login, and behind it a real front end (nginx) that nobody reaches without it."""

import subprocess
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness import average
from harness.lacking import lacking, missing
from harness.node import free_port
from harness.nodes import AVERAGE, ODD
from harness.services import started

# Where the HTTP proxy's connections come from.
OUTSIDE = "127.0.0.2"
LOGIN = "sextant:hushhush"
TINYPROXY = """
Port {port}
Listen 127.0.0.1
Bind {outside}
BasicAuth {user} {password}
LogLevel Connect
LogFile "{directory}/tinyproxy.log"
"""
NGINX = """
daemon off; pid {directory}/nginx.pid; error_log {directory}/nginx.error;
events {{}}
http {{
    access_log off; client_max_body_size 0; proxy_request_buffering off; proxy_read_timeout 600;
    client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/f; uwsgi_temp_path {directory}/u; scgi_temp_path {directory}/s;
    map $http_upgrade $connection_upgrade {{ default upgrade; '' close; }}
    server {{
        listen 127.0.0.1:{https} ssl; listen 127.0.0.1:{http};
        ssl_certificate {directory}/tls.pem; ssl_certificate_key {directory}/tls.key;
        allow {outside}; deny all;
        location / {{
            proxy_pass http://127.0.0.1:{server}; proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $connection_upgrade;
        }}
    }}
}}
"""


@dataclass
class Outside:
    """The server as it is seen from the organization."""

    ports: dict[str, int]
    proxy: int
    certificate: Path
    log: Path

    def environment(self, scheme: str, login: str = LOGIN) -> dict[str, str]:
        """What the operator sets."""
        return {f"{scheme.upper()}_PROXY": f"http://{login}@127.0.0.1:{self.proxy}"}


@pytest.fixture(scope="module")
def outside(world, directory):
    """The HTTP proxy, and the server behind it, with and without TLS."""
    if why := missing("http-proxy"):
        lacking(f"this needs nginx, tinyproxy and openssl: {why}")
    place = directory / "outside"
    place.mkdir()
    ports = {scheme: free_port() for scheme in ("http", "https")}
    proxy = free_port()
    user, password = LOGIN.split(":")
    values = {"directory": place, "outside": OUTSIDE, "server": world.server.port, "port": proxy} | ports
    (place / "nginx.conf").write_text(NGINX.format(**values))
    (place / "tinyproxy.conf").write_text(TINYPROXY.format(user=user, password=password, **values))
    certificate = place / "tls.pem"
    make = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=server"
    make += " -addext basicConstraints=critical,CA:FALSE -addext subjectAltName=IP:127.0.0.1"
    files = ["-keyout", place / "tls.key", "-out", certificate]
    subprocess.run([*make.split(), *files], check=True, capture_output=True)
    nginx = ["nginx", "-p", place, "-c", place / "nginx.conf", "-e", place / "nginx.error"]
    tinyproxy = ["tinyproxy", "-d", "-c", place / "tinyproxy.conf"]
    with started(ports["https"], nginx), started(proxy, tinyproxy):
        yield Outside(ports, proxy, certificate, place / "tinyproxy.log")


@pytest.fixture(params=["https", "http"])
def inside(request, outside, local_node):
    """A node whose only way to the server is the proxy; not started yet."""
    scheme = request.param
    port = outside.ports[scheme]
    trusted = {"ca_certificates": str(outside.certificate)} if scheme == "https" else {}
    node = local_node(server_url=f"{scheme}://127.0.0.1", port=port, **trusted)
    node.environment = outside.environment(scheme)
    node.scheme = scheme
    return node


@pytest.mark.parametrize("inside", ["https"], indirect=True)
def test_central_average(inside, outside, researcher, world):
    """The node itself, and the algorithm's requests through the node's proxy, find the server. (Without TLS tinyproxy lets no websocket
    through, of which the node hears only after half a minute.)"""
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(f"http://127.0.0.1:{outside.ports['http']}/api/version", timeout=10)
    inside.start_online()
    task = researcher.ask(
        AVERAGE,
        "central_average",
        [world.organization()],
        databases=["default"],
        column_name="salary",
        org_ids=[world.organization()],
    )
    expected = average.overall([average.partial(average.employee_files()[0], "salary")])
    assert researcher.result(task)["average"] == pytest.approx(expected)
    assert f"CONNECT 127.0.0.1:{outside.ports['https']}" in outside.log.read_text()
    assert LOGIN.split(":")[1] not in inside.log()


def test_wrong_login(inside, outside):
    """The log says that something on the way refuses, and does not repeat the password; the node goes on trying."""
    inside.environment = outside.environment(inside.scheme, "sextant:hushwrong")
    inside.start()
    inside.wait_log({"https": "(?i)of https_proxy.*requires another login", "http": "something in front of it requires a login"}[inside.scheme])
    inside.wait_log("Retrying in")
    assert "hushwrong" not in inside.log()


@pytest.mark.cluster
def test_the_cluster_is_reached_directly(kubernetes_node, researcher, world):
    """HTTPS_PROXY is about the world outside."""
    node = kubernetes_node()
    node.environment = {"HTTPS_PROXY": f"http://127.0.0.1:{free_port()}"}
    node.start_online()
    task = researcher.ask(ODD, "exit", [world.organization()], code=3)
    (run,) = researcher.finished(task, node=node)
    assert run["status"] == "crashed"
