"""The chart without a cluster: what helm, the schemas of Kubernetes, and Sextant itself say of what it makes."""

import copy
import os
import re
import subprocess
from datetime import datetime
from pathlib import Path

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from harness.chart import CHART, SCHEMAS, ChartError, helm, one, rendered, tool
from harness.nodes import merged
from harness.paths import REPOSITORY, binary

VALUES = {file.stem: yaml.safe_load(file.read_text()) for file in (Path(__file__).parent / "values").glob("*.yaml")}
NAMESPACE = "vantage6"


@pytest.fixture(params=VALUES)
def values(request):
    return VALUES[request.param]


@pytest.fixture
def manifests(values):
    return rendered("sextant", NAMESPACE, values)


def test_lint(values):
    """helm finds nothing to complain of."""
    helm("lint", str(CHART), "--strict", values=values)


def test_kubernetes_takes_it(manifests):
    """Every manifest fits Kubernetes's own description of its kind, without a field that it doesn't know."""
    place = f"{SCHEMAS}/{{{{ .ResourceKind }}}}{{{{ .KindSuffix }}}}.json"
    if not SCHEMAS.exists():
        pytest.skip("no schemas: they are made by testbed/build charts")
    done = subprocess.run(
        [tool("kubeconform"), "-strict", "-summary", "-schema-location", place, "-"],
        input=yaml.safe_dump_all(manifests),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"Valid: {len(manifests)}," in done.stdout
    assert "Skipped: 0" in done.stdout


def test_sextant_takes_its_configurations(manifests, tmp_path):
    """`sextant check` finds the node's configuration good, and the one of the proxy has no key in it."""
    config = yaml.safe_load(one(manifests, "Secret")["stringData"]["node.yaml"])
    done = check(config, tmp_path)
    assert done.returncode == 0, done.stdout
    assert "can be used" in done.stdout
    proxy = yaml.safe_load(one(manifests, "ConfigMap")["data"]["proxy.yaml"])
    common = {"server_url", "port", "api_path", "logging", "health", "encryption", "ca_certificates"}
    assert proxy.keys() <= common | {"kubernetes"}
    # What it may keep on its disk is what its volume may hold.
    volumes = one(manifests, "Deployment", "-proxy")["spec"]["template"]["spec"]["volumes"]
    (tmp,) = [volume for volume in volumes if volume["name"] == "tmp"]
    assert proxy["kubernetes"] == {"proxy": {"tmp_size": tmp["emptyDir"]["sizeLimit"]}}
    done = check(proxy, tmp_path)
    assert done.returncode == 0, done.stdout


def check(config: dict, directory: Path) -> subprocess.CompletedProcess:
    """Runs `sextant check` on a configuration of a pod, with the pod's files in a folder of this machine."""
    config = copy.deepcopy(config)
    for key in ("api_key_file", "ca_certificates"):
        if key in config:
            config[key] = str(directory / "file.pem")
    key = rsa.generate_private_key(65537, 2048)
    pem = (serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption())
    if config["encryption"].get("private_key"):
        config["encryption"]["private_key"] = str(directory / "private-key.pem")
        (directory / "private-key.pem").write_bytes(key.private_bytes(*pem))
        (directory / "private-key.pem").chmod(0o600)
    (directory / "file.pem").write_bytes(certificate(key))
    file = directory / "node.yaml"
    file.write_text(yaml.safe_dump(config))
    file.chmod(0o600)
    environment = os.environ | {"SEXTANT_API_KEY": "key"}
    return subprocess.run([binary(), "check", file], capture_output=True, text=True, env=environment)


def certificate(key: rsa.RSAPrivateKey) -> bytes:
    """Of an authority that nobody knows."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "authority")])
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, datetime(2020, 1, 1), datetime(2120, 1, 1))
    return made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def test_the_walls_are_those_of_sextant(manifests, tmp_path):
    """Chart and `sextant walls` make the same policies of the same configuration, but for how each names pods and ports."""
    secret = one(manifests, "Secret")
    config = yaml.safe_load(secret["stringData"]["node.yaml"])
    namespace = config["kubernetes"]["namespace"]
    # What stands for the two ways out: pods here, addresses there.
    config["kubernetes"] |= {"data_port": {"address": "192.0.2.2:7654"}, "proxy": {"address": "192.0.2.1:8080"}}
    config |= {"encryption": {"enabled": False}, "ca_certificates": None, "api_key_file": None}
    file = tmp_path / "node.yaml"
    file.write_text(yaml.safe_dump(config))
    environment = os.environ | {"SEXTANT_API_KEY": "key"}
    done = subprocess.run([binary(), "walls", file], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    theirs = [each for each in manifests if each["kind"] == "NetworkPolicy" and each["metadata"]["namespace"] == namespace]
    ours = [each for each in yaml.safe_load_all(done.stdout) if each]
    assert {each["metadata"]["namespace"] for each in ours} == {namespace}
    assert comparable(theirs) == comparable(ours)
    # Each keeps others out by itself, so that no second one has to be there.
    for policy in theirs:
        assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
        assert "ingress" not in policy["spec"]


def comparable(policies: list[dict]) -> list[str]:
    """Policies in one form: whose pods are meant is 'this node's runs', and the two ways out are 'node' and 'proxy'."""

    def form(policy: dict) -> str:
        labels = dict(policy["spec"]["podSelector"].get("matchLabels", {}))
        if labels:
            assert labels.pop("app.kubernetes.io/name") == "sextant"
            assert labels.pop("app.kubernetes.io/component") == "algorithm"
            (of,) = [key for key in labels if key in ("app.kubernetes.io/instance", "vantage6.ai/node-key")]
            labels[of] = labels.pop(of) and "this node"
            labels["node"] = labels.pop(of)
        rules = []
        for rule in policy["spec"].get("egress", []):
            (to,) = rule["to"]
            block = to.get("ipBlock", {}).get("cidr")
            pods = to.get("podSelector", {}).get("matchLabels", {}).get("app.kubernetes.io/component")
            name = pods or {"192.0.2.1/32": "proxy", "192.0.2.2/32": "node"}.get(block) or block
            rules.append((name, sorted((each["protocol"], each["port"]) for each in rule["ports"])))
        types = sorted(policy["spec"]["policyTypes"])
        return str((sorted(labels.items()), types, sorted(rules), policy["spec"].get("ingress", [])))

    return sorted(form(each) for each in policies)


def test_the_role_is_what_the_node_asks_for(manifests):
    """The Role has exactly what the node asks the API server about at its start (runtime/kubernetes/permissions.rs)."""
    code = (REPOSITORY / "crates/sextant/src/runtime/kubernetes/permissions.rs").read_text()
    table = code[code.index("pub const NEEDED") : code.index("];", code.index("pub const NEEDED"))]
    rows = re.findall(r'\("([a-z0-9.]*)", "([a-z/]+)", &\[([^]]*)\]\)', table)
    assert rows
    needed = {(group, resource, verb) for group, resource, verbs in rows for verb in re.findall(r'"(\w+)"', verbs)}
    assert rights(one(manifests, "Role")["rules"]) == needed


def rights(rules: list[dict]) -> set[tuple[str, str, str]]:
    """A Role's rules as single rights."""
    return {
        (group, resource, verb)
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def test_no_secret_but_by_reference(manifests):
    """The chart makes no Secret but the configuration; key and private key are mounted from those that are named."""
    secrets = [each["metadata"]["name"] for each in manifests if each["kind"] == "Secret"]
    assert len(secrets) == 1
    config = yaml.safe_load(one(manifests, "Secret")["stringData"]["node.yaml"])
    assert "api_key" not in config
    for deployment in ("-node", "-proxy"):
        pod = one(manifests, "Deployment", deployment)["spec"]["template"]["spec"]
        assert pod["automountServiceAccountToken"] is (deployment == "-node")
        mounts = {volume["name"] for volume in pod["volumes"]}
        assert ("api-key" in mounts) is (deployment == "-node")
        assert ("private-key" in mounts) is config["encryption"]["enabled"]


LEAST = VALUES["least"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"config": {"server_url": None}}, "server_url"),
        ({"config": {"server_url": "vantage6.example.org"}}, "/config/server_url"),
        ({"config": {"port": "443"}}, "/config/port"),
        ({"apiKey": {"secret": ""}}, "/apiKey/secret"),
        ({"apiKey": {"secret": "My key"}}, "/apiKey/secret"),
        ({"apikey": {}}, "apikey"),
        ({"image": {"digest": "latest"}}, "/image/digest"),
        ({"image": {"pullPolicy": "always"}}, "/image/pullPolicy"),
        ({"encryption": {"enabled": True}}, "/encryption/secret"),
        ({"proxy": {"replicas": 0}}, "/proxy/replicas"),
        ({"proxy": {"replica": 1}}, "replica"),
        ({"proxy": {"tmpSize": "much"}}, "/proxy/tmpSize"),
        ({"tasks": {"namespace": "V6"}}, "/tasks/namespace"),
        ({"tasks": {"podSecurity": "none"}}, "/tasks/podSecurity"),
        ({"networkPolicy": {"server": {"cidrs": ["server.example.org"]}}}, "/networkPolicy/server/cidrs/0"),
        ({"config": {"databases": [{"label": "a b", "type": "csv"}]}}, "/config/databases/0/label"),
        ({"config": {"databases": [{"label": "a", "type": "cvs"}]}}, "/config/databases/0/type"),
        ({"config": {"kubernetes": {"databases": {"a": {"egress": [{"cidr": "db.example.org", "port": 1}]}}}}}, "/egress/0/cidr"),
        ({"config": {"kubernetes": {"databases": {"a": {"egress": [{"cidr": "10.0.0.1"}]}}}}}, "/egress/0"),
        ({"config": {"kubernetes": {"pod_security": "privileged"}}}, "/config/kubernetes/pod_security"),
        # What a schema can't see, in words that say what to do.
        ({"tasks": {"namespace": NAMESPACE}}, "Name another one"),
        ({"config": {"api_key": "k"}}, "name it in apiKey.secret"),
        ({"config": {"encryption": {"enabled": True}}}, "use encryption.enabled"),
        ({"config": {"kubernetes": {"namespace": "a"}}}, "use tasks.namespace"),
        ({"config": {"task_dir": "/tasks"}}, "config.kubernetes.tmp, or set tasks.podSecurity: privileged"),
        ({"config": {"databases": [{"label": "a", "type": "csv", "uri": "/a.csv"}]}}, "'a' is a path of the machine"),
        (
            {
                "config": {
                    "databases": [{"label": "a", "type": "csv"}],
                    "kubernetes": {"databases": {"a": {"hostPath": {"path": "/a"}, "path": "b"}}},
                }
            },
            "a hostPath is not allowed",
        ),
    ],
)
def test_mistakes_are_told(change, says):
    """A mistake in the values is told with its place, before anything reaches the cluster."""
    with pytest.raises(ChartError) as error:
        rendered("sextant", NAMESPACE, merged(LEAST, change))
    assert says in str(error.value)


def test_egress_of_the_node_is_no_wider_than_asked():
    """The server's port and address, if they are known; else its port at any address."""

    def ways(component: str, **config):
        policy = one(rendered("v6", NAMESPACE, merged(LEAST, {"config": config})), "NetworkPolicy", f"v6-sextant-{component}")
        rule = policy["spec"]["egress"][0]
        return [to["ipBlock"]["cidr"] for to in rule.get("to", [])], [each["port"] for each in rule["ports"]]

    for component in ("node", "proxy"):
        assert ways(component) == ([], [443])
        assert ways(component, server_url="http://example.org") == ([], [80])
        assert ways(component, server_url="https://example.org:8443") == ([], [8443])
        assert ways(component, server_url="http://192.0.2.17", port=7601) == (["192.0.2.17/32"], [7601])
    assert len(one(rendered("v6", NAMESPACE, LEAST), "NetworkPolicy", "v6-sextant-proxy")["spec"]["egress"]) == 2


def test_without_policies_there_is_none():
    """Whoever makes the walls otherwise can turn them off."""
    manifests = rendered("sextant", NAMESPACE, merged(LEAST, {"networkPolicy": {"enabled": False}}))
    assert not [each for each in manifests if each["kind"] == "NetworkPolicy"]
