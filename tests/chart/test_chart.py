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

from harness.chart import CHART, SCHEMAS, ChartError, helm, one, rendered, rules, tool
from harness.nodes import merged
from harness.paths import REPOSITORY, binary

VALUES = {file.stem: yaml.safe_load(file.read_text()) for file in (Path(__file__).parent / "values").glob("*.yaml")}
NAMESPACE = "vantage6"
# The label that tells the releases apart whose runs share a namespace.
RELEASE = "sextant.vantage6.ai/release"
LEAST = VALUES["least"]
CLAIM = "v.ephemeral.volumeClaimTemplate.spec"
CLAIMED = "v.ephemeral.volumeClaimTemplate.metadata"
SCRATCH = (
    f"has(v.ephemeral) && v.name == 'scratch' && has({CLAIM}.storageClassName) && {CLAIM}.storageClassName == \"fast\""
    f" && !has({CLAIM}.dataSource) && !has({CLAIM}.dataSourceRef) && !has({CLAIM}.volumeName) && !has({CLAIM}.selector)"
    f" && (!has({CLAIMED}) || !has({CLAIMED}.annotations))"
)


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
    """Chart and `sextant network-policies` make the same policies of the same configuration, but for how each names pods and ports."""
    secret = one(manifests, "Secret")
    config = yaml.safe_load(secret["stringData"]["node.yaml"])
    namespace = config["kubernetes"]["namespace"]
    # What stands for the two ways out: pods here, addresses there.
    config["kubernetes"] |= {"data_port": {"address": "192.0.2.2:7654"}, "proxy": {"address": "192.0.2.1:8080"}}
    config |= {"encryption": {"enabled": False}, "ca_certificates": None, "api_key_file": None}
    file = tmp_path / "node.yaml"
    file.write_text(yaml.safe_dump(config))
    environment = os.environ | {"SEXTANT_API_KEY": "key"}
    done = subprocess.run([binary(), "network-policies", file], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    theirs = [each for each in manifests if each["kind"] == "NetworkPolicy" and each["metadata"]["namespace"] == namespace]
    ours = [each for each in yaml.safe_load_all(done.stdout) if each]
    assert {each["metadata"]["namespace"] for each in ours} == {namespace}
    assert comparable(theirs) == comparable(ours)
    # Each keeps others out by itself, so that no second one has to be there.
    for policy in theirs:
        assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
        assert "ingress" not in policy["spec"]


SERVICES = {
    "redis": {"namespace": "tools", "name": "cache", "port": 6379, "pod_labels": {"app": "cache"}},
    "web.tools": {"namespace": "tools", "name": "web", "port": 80, "target_port": 8080},
}


def test_services_are_those_of_sextant(tmp_path):
    """For each Service: the same way out of all runs as `sextant network-policies` makes, and the right to read this one Service."""
    values = merged(LEAST, {"config": {"docker_services": {"redis": "cache"}, "kubernetes": {"services": SERVICES}}})
    manifests = rendered("sextant", NAMESPACE, values)
    config = yaml.safe_load(one(manifests, "Secret")["stringData"]["node.yaml"])
    config["kubernetes"] |= {"data_port": {"address": "192.0.2.2:7654"}, "proxy": {"address": "192.0.2.1:8080"}}
    config |= {"ca_certificates": None, "api_key_file": None}
    file = tmp_path / "node.yaml"
    file.write_text(yaml.safe_dump(config))
    environment = os.environ | {"SEXTANT_API_KEY": "key"}
    done = subprocess.run([binary(), "network-policies", file], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    policies = {each["metadata"]["name"]: each["spec"] for each in manifests if each["kind"] == "NetworkPolicy"}
    ours = {each["metadata"]["name"]: each["spec"] for each in yaml.safe_load_all(done.stdout) if each}
    runs = one([each for each in manifests if each["kind"] == "Role" and each["metadata"]["namespace"] != "tools"], "Role")["metadata"]["name"]
    for alias, service in SERVICES.items():
        theirs = policies[f"{runs}-service-{alias}"]
        (of_sextant,) = [spec for name, spec in ours.items() if name.endswith(f"-service-{alias}")]
        assert theirs["egress"] == of_sextant["egress"]
        assert theirs["podSelector"] == policies[runs]["podSelector"]
        assert theirs["policyTypes"] == ["Ingress", "Egress"]
        roles = {each["kind"]: each for each in manifests if each["metadata"]["name"] == f"{runs}-service-{alias}" and each["kind"].startswith("Role")}
        assert {each["metadata"]["namespace"] for each in roles.values()} == {"tools"}
        assert roles["Role"]["rules"] == [{"apiGroups": [""], "resources": ["services"], "resourceNames": [service["name"]], "verbs": ["get"]}]
        assert roles["RoleBinding"]["subjects"] == [{"kind": "ServiceAccount", "name": "sextant-node", "namespace": NAMESPACE}]


def test_the_runtime_class_of_gpus_is_admitted_alone():
    """A pod has no runtime class but that of `kubernetes.gpu`, and only where GPUs are requested."""
    gpu = {"kubernetes": {"gpu": {"runtime_class": "nvidia"}}}
    for config, admitted in [
        ({}, False),
        (gpu, False),
        (gpu | {"algorithm_device_requests": {"gpu": False}}, False),
        (gpu | {"algorithm_device_requests": None}, False),
        (gpu | {"algorithm_device_requests": {"gpu": True}}, True),
    ]:
        (rule,) = [each for each in rules_of_jobs(config=config) if "runtimeClassName" in each]
        assert "!has(object.spec.template.spec.runtimeClassName)" in rule
        assert ("runtimeClassName == 'nvidia'" in rule) is admitted, (config, rule)


def comparable(policies: list[dict]) -> list[str]:
    """Policies in one form: whose pods are meant is 'this node's runs', and the two ways out are 'node' and 'proxy'."""

    def form(policy: dict) -> str:
        labels = dict(policy["spec"]["podSelector"].get("matchLabels", {}))
        if labels:
            assert labels.pop("app.kubernetes.io/name") == "sextant"
            assert labels.pop("app.kubernetes.io/component") == "algorithm"
            labels.pop("vantage6.ai/node-key", None)
            (of,) = [key for key in labels if key == RELEASE]
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


# Names that have begun as one, or would be one if they were only put together; the last are too long for a label.
NAMES = [("sextant", "a"), ("sextant", "b"), ("b-sextant", "a"), ("sextant", "a-b"), ("a", "sextant"), ("s" * 53, "n" * 63), ("s" * 53, "n" * 62 + "m")]


def pods_of(manifests: list[dict], databases: list[str]) -> list[tuple[str, dict[str, str]]]:
    """The pods of a release, with their namespaces: its own, and one of its runs, as it labels them."""
    pods = [
        (each["metadata"]["namespace"], each["spec"]["template"]["metadata"]["labels"])
        for each in manifests
        if each["kind"] == "Deployment"
    ]
    settings = yaml.safe_load(one(manifests, "Secret")["stringData"]["node.yaml"])["kubernetes"]
    run = settings["labels"] | {"app.kubernetes.io/name": "sextant", "app.kubernetes.io/component": "algorithm"}
    run |= {f"database.vantage6.ai/{each}": "true" for each in databases}
    return [*pods, (settings["namespace"], run)]


def selects(selector: dict, labels: dict[str, str]) -> bool:
    """Whether a label selector means something with these labels."""
    for each in selector.get("matchExpressions", []):
        assert each["operator"] == "DoesNotExist"
        if each["key"] in labels:
            return False
    return selector.get("matchLabels", {}).items() <= labels.items()


def openings(manifests: list[dict]) -> list[tuple[str, str, dict]]:
    """Each selector of pods by which a policy opens something or a Service leads somewhere: where it stands, the namespace that it means,
    and the selector."""
    found = []
    for each in manifests:
        name, spec = f"{each['kind']} {each['metadata']['name']}", each.get("spec", {})
        own = each["metadata"].get("namespace")
        if each["kind"] in ("Deployment", "PodDisruptionBudget"):
            found.append((name, own, spec["selector"]))
        if each["kind"] == "Service":
            found.append((name, own, {"matchLabels": spec["selector"]}))
        if each["kind"] == "NetworkPolicy" and (spec.get("egress") or spec.get("ingress")):
            found.append((name, own, spec["podSelector"]))
            for rule in [*spec.get("ingress", []), *spec.get("egress", [])]:
                for peer in [*rule.get("from", []), *rule.get("to", [])]:
                    namespace = peer.get("namespaceSelector", {}).get("matchLabels", {}).get("kubernetes.io/metadata.name")
                    if namespace:
                        found.append((name, namespace, peer["podSelector"]))
    return found


@pytest.mark.parametrize("earlier", ["deny", "allow"])
def test_releases_that_share_a_namespace_share_nothing_else(earlier):
    """No selector of one release means a pod of another, whatever both are called, also where runs of an earlier chart keep their way."""
    egress = {"warehouse": {"egress": [{"cidr": "10.0.0.1", "port": 5432}]}}
    databases = [{"label": "warehouse", "type": "sql", "uri": "postgresql://db/x"}]
    values = merged(LEAST, {"config": {"databases": databases, "kubernetes": {"databases": egress}}, "upgrade": {"earlierRuns": earlier}})
    releases = {each: rendered(*each, values) for each in NAMES}
    for mine, manifests in releases.items():
        opened = openings(manifests)
        assert len(opened) >= 12
        for theirs, others in releases.items():
            meant = [
                (name, labels)
                for name, namespace, selector in opened
                for where, labels in pods_of(others, ["warehouse"])
                if namespace == where and selects(selector, labels)
            ]
            assert bool(meant) is (mine == theirs), (mine, theirs, meant)
    labels = [pods_of(each, [])[-1][1][RELEASE] for each in releases.values()]
    assert len(set(labels)) == len(NAMES)
    assert all(re.fullmatch(r"[a-z0-9]([-.a-z0-9]{0,61}[a-z0-9])?", each) for each in labels), labels


def test_runs_of_an_earlier_chart_keep_their_connections():
    """Whoever says so lets out runs that have no label of a release yet: to the same places, and to their databases."""
    values = merged(VALUES["most"], {"upgrade": {"earlierRuns": "allow"}})
    manifests = rendered("sextant", NAMESPACE, values)
    policies = {each["metadata"]["name"]: each["spec"] for each in manifests if each["kind"] == "NetworkPolicy"}
    earlier = {name: spec for name, spec in policies.items() if name.endswith("-earlier")}
    assert len(earlier) == 3
    run = {"app.kubernetes.io/name": "sextant", "app.kubernetes.io/component": "algorithm", "app.kubernetes.io/instance": "sextant"}
    for name, spec in earlier.items():
        assert spec["egress"] == policies[name.removesuffix("-earlier")]["egress"]
    assert selects(earlier["v6-vantage6-earlier"]["podSelector"], run)
    assert not selects(policies["v6-vantage6"]["podSelector"], run)
    for role in ("node", "proxy"):
        assert any(selects(peer["podSelector"], run) for peer in policies[f"v6-{role}"]["ingress"][0]["from"])
    assert not [name for name in (each["metadata"]["name"] for each in rendered("sextant", NAMESPACE, VALUES["most"])) if name.endswith("-earlier")]


def test_the_account_is_bound_where_the_cluster_can():
    """A policy with its binding for everything that the account may make or change; none where it is turned off or unknown, and NOTES say so."""
    manifests = rendered("sextant", NAMESPACE, LEAST)
    policies = [each for each in manifests if each["kind"] == "ValidatingAdmissionPolicy"]
    bound = {each["spec"]["policyName"] for each in manifests if each["kind"] == "ValidatingAdmissionPolicyBinding"}
    assert {each["metadata"]["name"] for each in policies} == bound
    account = f"system:serviceaccount:{NAMESPACE}:{one(manifests, 'ServiceAccount', '-node')['metadata']['name']}"
    covered = set()
    for policy in policies:
        spec = policy["spec"]
        assert spec["failurePolicy"] == "Fail"
        assert [each["expression"] for each in spec["matchConditions"]] == [f'request.userInfo.username == "{account}"']
        (rule,) = spec["matchConstraints"]["resourceRules"]
        covered |= {(group, resource) for group in rule["apiGroups"] for resource in rule["resources"] if "/" not in resource}
    writes = {(group, resource) for group, resource, verb in rights(one(manifests, "Role")["rules"]) if verb in ("create", "update", "patch")}
    assert covered == writes
    off = merged(LEAST, {"admissionPolicy": {"enabled": False}})
    without = helm("install", "sextant", str(CHART), "--dry-run=client", "--namespace", NAMESPACE, values=off)
    assert "kind: ValidatingAdmissionPolicy" not in without
    assert "WARNING: there is no ValidatingAdmissionPolicy" in without


def test_an_older_kubernetes_is_refused():
    """What is supported is what the tests run on: testbed/kube/versions has the oldest."""
    template = ("template", "sextant", str(CHART), "--namespace", NAMESPACE, "--kube-version")
    oldest = min((REPOSITORY / "testbed" / "kube" / "versions").iterdir(), key=lambda each: [int(part) for part in each.name.split(".")]).name
    assert helm(*template, f"{oldest}.0", values=LEAST)
    major, minor = oldest.split(".")
    with pytest.raises(ChartError, match="incompatible with Kubernetes"):
        helm(*template, f"{major}.{int(minor) - 1}.0", values=LEAST)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, ["has(v.emptyDir)"]),
        ({"task_dir": "/tasks"}, ["has(v.emptyDir)", "has(v.hostPath) && v.name == 'tmp' && v.hostPath.path == \"/tasks\""]),
        (
            {"kubernetes": {"tmp": {"persistentVolumeClaim": {"claimName": "t"}}}},
            ["has(v.emptyDir)", "has(v.persistentVolumeClaim) && v.name == 'tmp' && has(v.persistentVolumeClaim.claimName) && v.persistentVolumeClaim.claimName == \"t\""],
        ),
        ({"kubernetes": {"scratch": {"size": "1Gi", "storage_class": "fast"}}}, ["has(v.emptyDir)", SCRATCH]),
    ],
)
def test_volumes_are_those_of_the_configuration(config, expected):
    """A pod that the node makes may have the volumes that its configuration names, and no others."""
    values = merged(LEAST, {"config": config, "tasks": {"podSecurity": "privileged"}})
    policy = one(rendered("sextant", NAMESPACE, values), "ValidatingAdmissionPolicy", ".jobs")
    (rule,) = [each["expression"] for each in policy["spec"]["validations"] if "has(v.emptyDir)" in each["expression"]]
    inner = rule[rule.index("volumes.all(v, ") + len("volumes.all(v, ") : -1]
    assert inner == " || ".join(expected)


@pytest.mark.parametrize(
    ("source", "parts"),
    [
        (
            {"csi": {"driver": "d.example.org", "volumeAttributes": {"share": "mine"}, "nodePublishSecretRef": {"name": "login"}}},
            ['v.csi.driver == "d.example.org"', 'v.csi.volumeAttributes == {"share":"mine"}', 'v.csi.nodePublishSecretRef.name == "login"', "!has(v.csi.fsType)"],
        ),
        ({"csi": {"driver": "d.example.org"}}, ["(!has(v.csi.volumeAttributes))", "(!has(v.csi.nodePublishSecretRef))"]),
        (
            {"iscsi": {"targetPortal": "10.0.0.1", "iqn": "q", "lun": 0}},
            ['v.iscsi.targetPortal == "10.0.0.1"', 'v.iscsi.iqn == "q"', "(!has(v.iscsi.lun) || v.iscsi.lun == 0)", "(!has(v.iscsi.portals))"],
        ),
        ({"cephfs": {"monitors": ["a", "b"], "path": "/p"}}, ["size(v.cephfs.monitors) == 2", 'v.cephfs.monitors[1] == "b"', 'v.cephfs.path == "/p"']),
        ({"rbd": {"monitors": ["a"], "image": "i"}}, ['v.rbd.image == "i"', '(!has(v.rbd.pool) || v.rbd.pool == "rbd")']),
        ({"azureFile": {"secretName": "a", "shareName": "b"}}, ['v.azureFile.secretName == "a"', 'v.azureFile.shareName == "b"']),
        (
            {"projected": {"sources": [{"configMap": {"name": "mine"}}]}},
            ["size(v.projected.sources) == 1", 'v.projected.sources[0].configMap.name == "mine"', "(!has(v.projected.sources[0].secret))", "all(each, !has(each.serviceAccountToken))"],
        ),
        ({"nfs": {"server": "s", "path": "/p"}}, ['v.nfs.server == "s"', 'v.nfs.path == "/p"']),
    ],
)
def test_all_fields_of_a_volume_are_compared(source, parts):
    """Neither a driver nor a kind alone lets a volume through: another share of one driver may be somebody else's."""
    config = {"databases": [{"label": "b", "type": "csv"}], "kubernetes": {"databases": {"b": source | {"path": "b.csv"}}}}
    (rule,) = [each for each in rules_of_jobs(config=config) if "has(v.emptyDir)" in each]
    assert "v.name.startsWith('database-')" in rule
    assert [part for part in parts if part not in rule] == []


def test_a_volume_that_the_policy_cannot_compare_is_refused():
    """No kind and no field passes only because the chart does not know it."""
    for source, says in (({"new": {"a": "b"}}, "new is no kind of volume"), ({"nfs": {"server": "s", "path": "/p", "new": "x"}}, "nfs has no field new")):
        with pytest.raises(ChartError, match=says):
            rules_of_jobs(config={"kubernetes": {"tmp": source}})


def rules_of_jobs(**values) -> list[str]:
    policy = one(rendered("sextant", NAMESPACE, merged(LEAST, values)), "ValidatingAdmissionPolicy", ".jobs")
    return [each["expression"] for each in policy["spec"]["validations"]]


def test_only_ones_own_image_counts_as_own():
    """A registry whose name is the repository's with a port is another one."""
    (rule,) = [each for each in rules_of_jobs(image={"repository": "example.org/sextant"}) if "c.image" in each]
    assert 'c.image.startsWith("example.org/sextant") && c.image.substring(size("example.org/sextant")).matches(' in rule
    pattern = re.compile(rule[rule.index('matches("') + 9 :].partition('")')[0])
    digest = "@sha256:" + "a" * 64
    for tail in ("", ":1.0", ":1.0" + digest, digest):
        assert pattern.search(tail), tail
    for tail in (":5000/evil", ":5000/evil:1", "/evil", ".evil:1", "@sha256:a", ":1\nx", ":"):
        assert not pattern.search(tail), tail


def test_a_pod_goes_where_the_configuration_says():
    """Without `node_selector` and `tolerations` a pod has none; with them, these."""
    (rule,) = [each for each in rules_of_jobs() if "tolerations" in each]
    assert "!has(object.spec.template.spec.nodeSelector)" in rule and "tolerations.all(t, false)" in rule
    kubernetes = {"node_selector": {"disk": "ssd"}, "tolerations": [{"key": "data", "operator": "Exists", "tolerationSeconds": 5}]}
    (rule,) = [each for each in rules_of_jobs(config={"kubernetes": kubernetes}) if "tolerations" in each]
    for part in ('nodeSelector == {"disk":"ssd"}', 't.key == "data"', 't.operator == "Exists"', "t.tolerationSeconds == 5", "!has(t.effect)"):
        assert part in rule


@pytest.mark.parametrize(
    "part",
    [
        *(f"!has(object.spec.template.spec.{field})" for field in ("runtimeClassName", "priority", "affinity", "ephemeralContainers", "preemptionPolicy")),
        *(f"!has(object.spec.template.spec.securityContext.{field})" for field in ("supplementalGroups", "sysctls")),
        *(f"!has(c.{field})" for field in ("command", "envFrom", "restartPolicy", "lifecycle", "livenessProbe", "volumeDevices", "workingDir")),
        "c.args == [c.name]",
        "e.name.startsWith('SEXTANT_')",
        "!has(m.mountPropagation)",
    ],
)
def test_what_the_node_never_writes_is_refused(part):
    """Each free field of a pod is a way to more than the node has."""
    assert [each for each in rules_of_jobs() if part in each]


def test_a_pod_has_no_names_but_sextants_and_the_configurations():
    """By an annotation or a label, components of a cluster give a pod other networks, devices and containers."""

    def names(which, **kubernetes):
        at = f"object.spec.template.metadata.{which}"
        start = f"variables.unchanged || !has({at}) || {at}.all(k, "
        (rule,) = [each for each in rules_of_jobs(config={"kubernetes": kubernetes}) if each.startswith(start)]
        parts = rule[len(start) : -1].split(" || ")
        configured = re.compile(rf'k == "([^"]+)" && {re.escape(at)}\[k\] == "([^"]*)"')
        found = dict(match.groups() for part in parts if (match := configured.fullmatch(part)))
        return [part for part in parts if not configured.fullmatch(part)], found

    own, found = names("annotations")
    assert own == ["k.startsWith('vantage6.ai/')"]
    assert found.keys() == {"argocd.argoproj.io/compare-options", "argocd.argoproj.io/sync-options"}
    _, found = names("annotations", annotations={"example.org/a": "b", "argocd.argoproj.io/sync-options": "Prune=false"})
    assert found["example.org/a"] == "b" and found["argocd.argoproj.io/sync-options"] == "Prune=false"
    own, found = names("labels", labels={"team": "data", "cost": 1234567, "flag": True})
    controllers = ["batch.kubernetes.io/controller-uid", "batch.kubernetes.io/job-name", "controller-uid", "job-name"]
    assert own == ["k.startsWith('vantage6.ai/')", "k.startsWith('database.vantage6.ai/')", f"k in {['app.kubernetes.io/name', 'app.kubernetes.io/component', *controllers]}"]
    assert found == {"app.kubernetes.io/instance": "sextant", RELEASE: f"{NAMESPACE}.sextant", "team": "data", "cost": "1234567", "flag": "true"}


def test_a_pod_has_no_devices_but_the_configurations():
    """A device is a way to a network, or to the machine. Those that have no domain in their names are no devices."""

    def named(requests_gpu=False, **kubernetes):
        config = {"kubernetes": kubernetes, "algorithm_device_requests": {"gpu": requests_gpu}}
        (rule,) = [each for each in rules_of_jobs(config=config) if "c.resources.limits" in each]
        assert "!has(object.spec.template.spec.resources) && variables.containers.all(c, !has(c.resources) || " in rule
        found = [re.search(rf"c\.resources\.{side}\.all\(k, !k\.contains\('/'\)(?: \|\| k in (\[.*?\]))?\)", rule) for side in ("requests", "limits")]
        assert found[0][1] == found[1][1]
        return yaml.safe_load(found[0][1] or "[]")

    assert named() == []
    assert named(resources={"limits": {"memory": "4Gi", "nvidia.com/gpu": 1}, "requests": {"a.example/b": 1, "nvidia.com/gpu": 1}}) == ["a.example/b", "nvidia.com/gpu"]
    assert named(requests_gpu=True) == ["nvidia.com/gpu"]
    assert named(requests_gpu=True, gpu={"resource": "amd.com/gpu"}) == ["amd.com/gpu"]
    assert named(gpu={"resource": "amd.com/gpu"}) == []
    assert [each for each in rules_of_jobs() if "!has(object.spec.template.metadata.finalizers)" in each]


def test_a_volume_of_a_pods_own_has_the_annotations_of_the_configuration():
    """An annotation of a claim may name another StorageClass."""
    claim = {"metadata": {"annotations": {"a": "b"}}, "spec": {"storageClassName": "fast"}}
    (rule,) = [each for each in rules_of_jobs(config={"kubernetes": {"tmp": {"ephemeral": {"volumeClaimTemplate": claim}}}}) if "has(v.emptyDir)" in each]
    assert f'(!has({CLAIMED}) || !has({CLAIMED}.annotations) || {CLAIMED}.annotations == {{"a":"b"}})' in rule


def test_the_role_is_what_the_node_asks_for(manifests):
    """The Role has exactly what the node asks the API server about at its start (sextant-kubernetes/src/permissions.rs)."""
    code = (REPOSITORY / "crates/sextant-kubernetes/src/permissions.rs").read_text()
    table = code[code.index("pub const NEEDED") : code.index("];", code.index("pub const NEEDED"))]
    rows = re.findall(r'\("([a-z0-9.]*)", "([a-z/]+)", &\[([^]]*)\]\)', table)
    assert rows
    needed = {(group, resource, verb) for group, resource, verbs in rows for verb in re.findall(r'"(\w+)"', verbs)}
    assert rights(one(manifests, "Role")["rules"]) == needed
    assert one(manifests, "Role")["rules"] == rules()


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
        ({"encryption": {"enabled": True, "secret": "k", "organizationId": 0}}, "/encryption/organizationId"),
        ({"encryption": {"enabled": True, "secret": "k", "organizationId": "3"}}, "/encryption/organizationId"),
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
        ({"config": {"kubernetes": {"services": {"a": {"namespace": "b", "name": "c"}}}}}, "/services/a"),
        ({"config": {"kubernetes": {"services": {"a": {"namespace": "b", "name": "c", "port": 0}}}}}, "/services/a/port"),
        ({"config": {"kubernetes": {"gpu": {"count": 0}}}}, "/gpu/count"),
        ({"config": {"kubernetes": {"gpu": {"resources": "a"}}}}, "/gpu"),
        ({"config": {"kubernetes": {"pod_security": "privileged"}}}, "/config/kubernetes/pod_security"),
        ({"config": {"kubernetes": {"scratch": {"storage_class": "fast"}}}}, "/config/kubernetes/scratch"),
        ({"upgrade": {"earlierRuns": "true"}}, "/upgrade/earlierRuns"),
        # What a schema can't see, in words that say what to do.
        ({"tasks": {"namespace": NAMESPACE}}, "Name another one"),
        ({"tasks": {"namespace": "kube-system"}}, "of Kubernetes itself"),
        ({"tasks": {"namespace": "kube-public", "create": False}}, "of Kubernetes itself"),
        ({"tasks": {"namespace": "openshift-etcd", "create": False}}, "of OpenShift itself"),
        *(
            ({component: {"podLabels": {f"app.kubernetes.io/{name}": "x"}}}, f"{component}.podLabels.app.kubernetes.io/{name} can't be set here")
            for component in ("node", "proxy")
            for name in ("name", "instance", "component")
        ),
        ({"proxy": {"podAnnotations": {"checksum/config": "x"}}}, "proxy.podAnnotations.checksum/config can't be set here"),
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


@pytest.mark.parametrize(
    "path",
    [
        "networkPolicy",
        *(f"networkPolicy.{each}" for each in ("enabled", "server", "apiServer", "dns", "images", "node", "proxy")),
        *(f"networkPolicy.{each}" for each in ("server.cidrs", "apiServer.cidrs", "apiServer.ports", "dns.ports", "images.cidrs")),
        *("config.share_config", "config.share_algorithm_logs", "encryption", "encryption.enabled", "config.policies", "config.kubernetes", "admissionPolicy", "admissionPolicy.enabled"),
        *("proxy", "proxy.tmpSize", "node", "tasks.namespace", "upgrade", "upgrade.earlierRuns", "listenAddress"),
    ],
)
def test_a_setting_without_a_value_takes_no_protection_away(path):
    """helm drops a default where the values have null, as they do where everything below a key is a comment."""
    values = copy.deepcopy(LEAST)
    *above, name = path.split(".")
    section = values
    for each in above:
        section = section.setdefault(each, {})
    section[name] = None
    with pytest.raises(ChartError) as error:
        rendered("sextant", NAMESPACE, values)
    assert "nil pointer" not in str(error.value)
    assert path.rpartition(".")[2] in str(error.value)


@pytest.mark.parametrize("values", [LEAST, VALUES["machine"], VALUES["most"]])
def test_no_rule_lets_all_ports_through(values):
    """A rule of a NetworkPolicy without ports means all of them, and one whose peers are an empty list means everybody."""
    for policy in rendered("sextant", NAMESPACE, values):
        if policy["kind"] == "NetworkPolicy":
            for rule in policy["spec"].get("egress", []) + policy["spec"].get("ingress", []):
                assert rule["ports"]
                assert all(each["port"] for each in rule["ports"])
                assert rule.get("to", rule.get("from", "left out"))


WEAK = "WARNING: "


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({}, None),
        ({"networkPolicy": {"enabled": False}}, "the node runs nothing"),
        ({"networkPolicy": {"enabled": False}, "config": {"kubernetes": {"allow_unisolated": True}}}, "so that this chart has created no network policies"),
        ({"config": {"kubernetes": {"allow_unisolated": True}}}, "allow_unisolated is true: algorithms run"),
        ({"tasks": {"podSecurity": "privileged"}}, "tasks.podSecurity is privileged"),
        ({"tasks": {"podSecurity": "baseline"}, "config": {"kubernetes": {"pod_security": "restricted"}}}, "tasks.podSecurity is baseline, less"),
        ({"tasks": {"podSecurity": "restricted"}}, None),
        ({"tasks": {"create": False}}, "make sure that v6-jobs enforces the Pod Security Standard"),
        ({"tasks": {"namespace": "default", "create": False}}, "tasks.namespace is default"),
        ({"tasks": {"namespace": "cert-manager", "create": False}}, "tasks.namespace is cert-manager"),
        ({"tasks": {"namespace": "istio-system", "create": False}}, "tasks.namespace is istio-system"),
        ({"networkPolicy": {"proxy": {"egress": [{}]}}}, "networkPolicy.proxy.egress allows every address"),
        ({"networkPolicy": {"node": {"egress": [{"ports": [{"port": 3128}]}]}}}, "networkPolicy.node.egress allows every address"),
        ({"networkPolicy": {"node": {"egress": [{"to": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]}]}}}, "networkPolicy.node.egress allows every address"),
        ({"networkPolicy": {"proxy": {"egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.7/32"}}], "ports": [{"port": 3128}]}]}}}, None),
        *(
            ({"networkPolicy": {"node": {"egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.7/32"}}]} | ports]}}}, "networkPolicy.node.egress names no port")
            for ports in ({}, {"ports": []}, {"ports": None}, {"ports": [{"protocol": "TCP"}]}, {"ports": [{"port": 1, "endPort": 65535}]})
        ),
        *(
            ({"networkPolicy": {part: {"cidrs": ["10.0.0.1/32", cidr]}}}, f"networkPolicy.{part}.cidrs has every address")
            for part in ("server", "apiServer", "images")
            for cidr in (
                *("0.0.0.0/0", "0.0.0.0/1", "8.0.0.0/8", "172.0.0.0/8", "52.0.0.0/11", "203.0.0.0/15", "10.0.0.0/7"),
                *("::/0", "2000::/3", "2001::/31", "fc00::/7"),
                # IPv4 in the clothes of IPv6.
                *("::ffff:0:0/96", "::FFFF:0.0.0.0/96", "0:0:0:0:0:ffff::/96", "::ffff:8.0.0.0/104", "::/64", "::fffe:0:0/95"),
                *("64:ff9b::/96", "0064:ff9b::/96", "64:ff9b::8.0.0.0/104", "64:ff9b:1::/48", "64:ff9a::/31"),
            )
        ),
        *(
            ({"networkPolicy": {part: {"cidrs": [cidr]}}}, None)
            for part in ("server", "apiServer", "images")
            for cidr in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "198.51.100.0/24", "203.0.0.0/16", "2001:db8::/32", "fd00::/16", "64:ff9b::c633:6407/128")
        ),
        *(
            ({"networkPolicy": {part: {"cidrs": ["10.0.0.1/32", cidr]}}}, f"networkPolicy.{part}.cidrs has {cidr}: that is a whole range")
            for part in ("server", "apiServer", "images")
            for cidr in ("10.1.2.3/8", "203.0.113.7/24", "192.168.1.1/31", "198.51.100.128/24")
        ),
        ({"networkPolicy": {"server": {"cidrs": ["192.168.1.0/31", "255.255.255.255/32", "203.0.113.128/25"]}}}, None),
        ({"networkPolicy": {"images": {"ports": [443]}}}, "networkPolicy.images.cidrs is empty: the node may connect to any address"),
        ({"config": {"kubernetes": {"databases": {"w": {"egress": [{"cidr": "64:ff9b::/96", "port": 1}]}}}}}, "config.kubernetes.databases.w.egress has every address"),
        ({"config": {"kubernetes": {"databases": {"w": {"egress": [{"cidr": "0.0.0.0/0", "port": 1}]}}}}}, "config.kubernetes.databases.w.egress has every address"),
        ({"config": {"kubernetes": {"databases": {"w": {"egress": [{"cidr": "8.8.8.8", "port": 1}, {"cidr": "64:ff9b::1", "port": 1}]}}}}}, None),
        *(
            ({"networkPolicy": {"proxy": {"egress": [{"to": to}]}}}, "networkPolicy.proxy.egress allows every address")
            for to in (
                [{"ipBlock": {"cidr": "0.0.0.0/1"}}, {"ipBlock": {"cidr": "128.0.0.0/1"}}],
                [{"ipBlock": {"cidr": "10.0.0.0/0"}}],
                [{"ipBlock": {"cidr": "64.0.0.0/2"}}],
                [{"ipBlock": {"cidr": "0::/0"}}],
                [{"ipBlock": {"cidr": "2000::/3"}}],
                [{"ipBlock": {"cidr": "0.0.0.0/00"}}],
                [{"ipBlock": {"cidr": "8.0.0.0/8"}}],
                [{"ipBlock": {"cidr": "::ffff:0:0/96"}}],
                [{"ipBlock": {"cidr": "64:ff9b::/96"}}],
                [{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8"]}}],
                [{"ipBlock": {"cidr": "10.0.0.7/32"}}, {"namespaceSelector": {}}],
                [{"namespaceSelector": {"matchLabels": {}}, "podSelector": {}}],
                [{"namespaceSelector": {"matchExpressions": [{"key": "kubernetes.io/metadata.name", "operator": "Exists"}]}}],
                [{"namespaceSelector": {"matchExpressions": [{"key": "a", "operator": "NotIn", "values": ["b"]}]}}],
            )
        ),
        *(
            ({"networkPolicy": {"proxy": {"egress": [{"to": to, "ports": [{"port": 3128}]}]}}}, None)
            for to in (
                [{"ipBlock": {"cidr": "10.0.0.0/8"}}, {"ipBlock": {"cidr": "2001:db8::/32"}}],
                [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "egress"}}}],
                [{"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "squid"}}}],
                [{"podSelector": {}}],
            )
        ),
        ({"networkPolicy": {"dns": {"to": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]}}}, "networkPolicy.dns.to allows every address"),
        ({"networkPolicy": {"dns": {"to": [{"namespaceSelector": {}}]}}}, "networkPolicy.dns.to allows every address"),
        ({"networkPolicy": {"dns": {"to": [{"ipBlock": {"cidr": "169.254.20.10/32"}}]}}}, None),
        *(
            ({"networkPolicy": {"metrics": [rule]}}, "networkPolicy.metrics allows every address")
            for rule in (
                *({}, {"namespaceSelector": {}}),
                *({"ipBlock": {"cidr": cidr}} for cidr in ("0.0.0.0/0", "::/0", "::ffff:0:0/96", "64:ff9b::/96", "128.0.0.0/1")),
            )
        ),
        ({"networkPolicy": {"metrics": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]}}, None),
        ({"node": {"podLabels": {"team": "a"}}}, None),
        ({"networkPolicy": {"dns": {"ports": [53, 443]}}}, "networkPolicy.dns.ports has 443"),
        ({"networkPolicy": {"dns": {"ports": [53, 5353]}}}, None),
        ({"encryption": {"secret": "private-key"}}, "encryption.secret is set, but encryption.enabled is false"),
        ({"encryption": {"secret": "private-key", "enabled": True}}, "encryption.organizationId is not set"),
        ({"encryption": {"secret": "private-key", "enabled": True, "organizationId": 3}}, None),
        ({"node": {"env": [{"name": "V6_API_KEY", "value": "k"}]}}, "node.env has secrets in plain text (V6_API_KEY)"),
        ({"proxy": {"env": [{"name": "HTTPS_PROXY", "value": "http://user:pass@proxy.example.org:3128"}]}}, "proxy.env has secrets in plain text (HTTPS_PROXY)"),
        ({"proxy": {"env": [{"name": "HTTPS_PROXY", "value": "user:pass@proxy:3128"}]}}, "proxy.env has secrets in plain text (HTTPS_PROXY)"),
        ({"proxy": {"env": [{"name": "HTTPS_PROXY", "value": "http://proxy.example.org:3128"}]}}, None),
        ({"proxy": {"env": [{"name": "HTTPS_PROXY", "valueFrom": {"secretKeyRef": {"name": "a", "key": "b"}}}]}}, None),
        ({"proxy": {"resources": {"limits": {"memory": None}}}}, "proxy.resources has no memory limit"),
        ({"node": {"resources": {"limits": None}}}, "node.resources has no memory limit"),
        *(({"node": {"resources": {"limits": {"memory": zero}}}}, "node.resources has no memory limit") for zero in (0, "0", "0Gi", "0.0", "0e3")),
        *(({"node": {"resources": {"limits": {"memory": some}}}}, None) for some in ("0.5Gi", "500Mi", 1000000000, "1e9")),
        ({"networkPolicy": {"node": {"egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.7/32"}}], "ports": [{"port": 3128, "endPort": 3130}]}]}}}, None),
        *(
            ({"proxy": {"podAnnotations": {name: "x"}}}, f"proxy.podAnnotations has {name}")
            for name in ("k8s.v1.cni.cncf.io/networks", "v1.multus-cni.io/default-network", "cni.projectcalico.org/ipv4pools", "k8s.ovn.org/pod-networks")
        ),
        ({"node": {"podAnnotations": {"prometheus.io/scrape": "true"}}}, None),
        ({"admissionPolicy": {"enabled": False}}, "there is no ValidatingAdmissionPolicy"),
    ],
)
def test_what_is_weaker_is_told(change, says):
    """NOTES name each value that takes protection away, and nothing else."""
    made = helm("install", "sextant", str(CHART), "--dry-run=client", "--namespace", NAMESPACE, values=merged(LEAST, change))
    notes = made[made.index("NOTES:") :]
    if says:
        assert says in notes
    else:
        assert WEAK not in notes
    if change.get("config"):
        assert "the node runs nothing" not in notes


def test_argo_cd_leaves_runs_alone():
    """Runs have the label by which Argo CD knows an Application's parts, but nothing of them is compared, pruned or deleted with it."""
    options = {"argocd.argoproj.io/compare-options": "IgnoreExtraneous", "argocd.argoproj.io/sync-options": "Prune=false,Delete=false"}

    def annotations(**kubernetes):
        manifests = rendered("sextant", NAMESPACE, merged(LEAST, {"config": {"kubernetes": kubernetes}}))
        return yaml.safe_load(one(manifests, "Secret")["stringData"]["node.yaml"])["kubernetes"]["annotations"]

    assert annotations() == options
    assert annotations(annotations={"team": "data"}) == options | {"team": "data"}


def test_names_are_looked_up_nowhere_if_nowhere_is_named():
    """Without an address for DNS there is no rule for it, instead of one that leads everywhere."""
    for to, rules in (([], 1), ([{"ipBlock": {"cidr": "10.96.0.10/32"}}], 2)):
        manifests = rendered("v6", NAMESPACE, merged(LEAST, {"networkPolicy": {"dns": {"to": to}}}))
        egress = one(manifests, "NetworkPolicy", "v6-sextant-proxy")["spec"]["egress"]
        assert len(egress) == rules
        assert not [rule for rule in egress if {each["port"] for each in rule["ports"]} == {53} and not rule.get("to")]


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


def test_stores_and_registries_are_reached_where_that_is_said():
    """By the node alone; without a word of it there is no rule."""
    policies = merged(LEAST, {"networkPolicy": {"images": {"ports": [443, 5000], "cidrs": ["198.51.100.7/32"]}}})
    manifests = rendered("v6", NAMESPACE, policies)
    rules = one(manifests, "NetworkPolicy", "v6-sextant-node")["spec"]["egress"]
    ours = {"to": [{"ipBlock": {"cidr": "198.51.100.7/32"}}], "ports": [{"protocol": "TCP", "port": port} for port in (443, 5000)]}
    assert ours in rules
    assert ours not in one(manifests, "NetworkPolicy", "v6-sextant-proxy")["spec"]["egress"]
    assert len(one(rendered("v6", NAMESPACE, LEAST), "NetworkPolicy", "v6-sextant-node")["spec"]["egress"]) == len(rules) - 1


def test_without_policies_there_is_none():
    """Anyone who creates the network policies otherwise can turn them off."""
    manifests = rendered("sextant", NAMESPACE, merged(LEAST, {"networkPolicy": {"enabled": False}}))
    assert not [each for each in manifests if each["kind"] == "NetworkPolicy"]


def test_node_and_proxy_listen_at_both_families():
    """By default, in a cluster with IPv6 pods too; or at the addresses of one family."""

    def listening(**values):
        manifests = rendered("sextant", NAMESPACE, LEAST | values)
        node = yaml.safe_load(one(manifests, "Secret")["stringData"]["node.yaml"])
        proxy = yaml.safe_load(one(manifests, "ConfigMap")["data"]["proxy.yaml"])
        listen = node["health"]["listen"], node["kubernetes"]["data_port"]["listen"], proxy["health"]["listen"]
        return *listen, proxy["kubernetes"]["proxy"].get("listen")

    assert listening() == ("[::]:8081", "[::]:7654", "[::]:8081", None)
    assert listening(listenAddress="0.0.0.0") == ("0.0.0.0:8081", "0.0.0.0:7654", "0.0.0.0:8081", "0.0.0.0:8080")


def test_addresses_of_either_family():
    """Services that have addresses, and a server that is one."""
    values = copy.deepcopy(LEAST) | {"node": {"clusterIP": "fd00:10::7"}, "proxy": {"clusterIP": "10.96.0.8"}}
    values["config"] = values["config"] | {"server_url": "https://[2001:db8::5]:8443"}
    manifests = rendered("sextant", NAMESPACE, values)
    kubernetes = yaml.safe_load(one(manifests, "Secret")["stringData"]["node.yaml"])["kubernetes"]
    assert kubernetes["data_port"]["address"] == "[fd00:10::7]:7654"
    assert kubernetes["proxy"]["address"] == "10.96.0.8:8080"
    policies = [each for each in manifests if each["kind"] == "NetworkPolicy"]
    rules = [rule for each in policies for rule in each["spec"].get("egress", []) if rule.get("ports")]
    to_server = [rule["to"] for rule in rules if rule["ports"][0]["port"] == 8443]
    assert to_server and all(to == [{"ipBlock": {"cidr": "2001:db8::5/128"}}] for to in to_server)
