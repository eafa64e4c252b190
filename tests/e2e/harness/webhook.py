"""A mutating webhook, as service meshes have one: adds containers to the pods of a namespace."""

import base64
import contextlib
import datetime
import ipaddress
import json
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from kubernetes import client

from .cluster import Cluster
from .wait import until

PODS = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}


@contextlib.contextmanager
def injecting(cluster: Cluster, directory: Path, init: list[dict] = (), containers: list[dict] = ()) -> Iterator[None]:
    """Every pod of the namespace gets these containers as well: `init` before its own init containers, `containers` behind its others."""
    address = cluster.host_address()
    certificate = self_signed(address, directory)
    server = ThreadingHTTPServer(("0.0.0.0", 0), handler(list(init), list(containers)))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    api = client.AdmissionregistrationV1Api(cluster.api)
    name = f"inject-{cluster.jobs_namespace}"
    host = f"[{address}]" if ":" in address else address
    webhook = {
        "name": "inject.sextant.test",
        "rules": [PODS],
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": cluster.jobs_namespace}},
        "clientConfig": {
            "url": f"https://{host}:{server.server_port}/",
            "caBundle": base64.b64encode(certificate.read_bytes().split(b"-----BEGIN EC")[0]).decode(),
        },
        "failurePolicy": "Fail",
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
    }
    api.create_mutating_webhook_configuration({"metadata": {"name": name}, "webhooks": [webhook]})
    try:
        until("the webhook to be asked", lambda: is_asked(cluster, len(init) + len(containers)), within=30)
        yield
    finally:
        api.delete_mutating_webhook_configuration(name)
        server.shutdown()
        server.server_close()
        thread.join()


def is_asked(cluster: Cluster, more: int) -> bool:
    """Whether a pod that is made on trial has so many containers more than the one that it is made with."""
    pod = {
        "metadata": {"generateName": "try-"},
        "spec": {"restartPolicy": "Never", "containers": [{"name": "a", "image": "a"}]},
    }
    with contextlib.suppress(client.ApiException):
        made = cluster.core.create_namespaced_pod(cluster.jobs_namespace, pod, dry_run="All")
        return len(made.spec.containers) + len(made.spec.init_containers or []) == 1 + more
    return False


def handler(init: list[dict], containers: list[dict]) -> type[BaseHTTPRequestHandler]:
    """Answers reviews with a patch."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            spec = review["request"]["object"]["spec"]
            before = spec.get("initContainers", [])
            patch = [
                {"op": "add", "path": "/spec/initContainers", "value": init + before},
                {"op": "add", "path": "/spec/containers", "value": spec["containers"] + containers},
            ]
            if not init + before:
                del patch[0]
            response = {
                "uid": review["request"]["uid"],
                "allowed": True,
                "patchType": "JSONPatch",
                "patch": base64.b64encode(json.dumps(patch).encode()).decode(),
            }
            answer = json.dumps({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_):
            pass

    return Handler


def self_signed(address: str, directory: Path) -> Path:
    """A certificate for this address with its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "webhook")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    form = serialization.PrivateFormat.TraditionalOpenSSL
    pem = serialization.Encoding.PEM
    file = directory / "webhook.pem"
    file.write_bytes(certificate.public_bytes(pem) + key.private_bytes(pem, form, serialization.NoEncryption()))
    return file
