"""The fixtures: one real server and one pair of namespaces a session, nodes and cleanliness a test."""

import base64
import os
import shutil
import ssl
import subprocess
import tempfile
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from v6server import Provision, Server

from faultproxy import FaultProxy
from harness import nodes, table
from harness.cluster import Cluster, kubeconfig
from harness.lacking import lacking
from harness.node import NodeProcess, free_port
from harness.paths import REPOSITORY
from harness.policies import NetworkPolicies
from harness.release import Release
from harness.world import World


def pytest_collection_finish(session: pytest.Session) -> None:
    """Builds what the tests that were selected need, since a compiler takes longer than a test may."""
    marks = (mark for item in session.items for mark in item.iter_markers("needs"))
    parts = sorted({part for mark in marks for part in mark.args})
    if parts and kubeconfig() and shutil.which("go") and not session.config.option.collectonly:
        subprocess.run([REPOSITORY / "testbed" / "build", *parts], check=True)


@pytest.fixture(scope="session")
def directory() -> Iterator[Path]:
    """Where this session's server and nodes keep their files; removed unless SEXTANT_E2E_KEEP is set."""
    made = Path(tempfile.mkdtemp(prefix="sextant-e2e-"))
    yield made
    if os.environ.get("SEXTANT_E2E_KEEP"):
        print(f"kept: {made}")
    else:
        shutil.rmtree(made, ignore_errors=True)


@pytest.fixture(scope="session")
def world(directory: Path) -> Iterator[World]:
    """A real vantage6 server with a collaboration of three organizations, each with a node and a user."""
    with Server.start(directory / "server", cheap_hashes=True) as server:
        yield World(server, Provision.create(server, organizations=3))


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """The Kubernetes cluster, with namespaces of this session's own. Without one its tests are skipped, but not in CI."""
    config = kubeconfig()
    if config is None:
        lacking("no cluster: set KUBECONFIG, or `make cluster-up` (as root)")
    made = Cluster(config)
    made.set_up()
    yield made
    made.tear_down()


@pytest.fixture
def researcher(world: World):
    """The user of the first organization, with the official client."""
    return world.researcher


@pytest.fixture(autouse=True)
def forget(request: pytest.FixtureRequest) -> Iterator[None]:
    """After each test: no task of it stays open on the server, no Job of it in the cluster."""
    yield
    try:
        if "world" in request.fixturenames:
            request.getfixturevalue("world").forget_tasks()
    finally:
        if "cluster" in request.fixturenames:
            request.getfixturevalue("cluster").forget_jobs()


@pytest.fixture
def started(request: pytest.FixtureRequest, forget: None) -> Iterator[list[NodeProcess]]:
    """The nodes that this test made; ended at its end, and their logs shown when it failed."""
    made: list[NodeProcess] = []
    request.node.nodes = made
    yield made
    for node in made:
        node.stop()


@pytest.fixture
def kubernetes_node(
    world: World, cluster: Cluster, directory: Path, started: list[NodeProcess], tmp_path: Path
) -> Callable[..., NodeProcess]:
    """Makes a node of the nth organization that runs on this machine and its algorithms on the cluster; not started yet."""

    def make(organization: int = 0, via: FaultProxy | None = None, **settings) -> NodeProcess:
        config = nodes.kubernetes(world, cluster, organization, tmp_path, port=via.port if via else None)
        node = NodeProcess(tmp_path / f"node-{len(started)}", nodes.merged(config, settings))
        started.append(node)
        return node

    return make


@pytest.fixture(scope="session")
def images(directory: Path) -> Path:
    """Where images of registries of these tests are made."""
    folder = directory / "images"
    folder.mkdir()
    return folder


@pytest.fixture(scope="module")
def place(cluster: Cluster) -> Iterator[Cluster]:
    """Namespaces for these tests alone: network policies apply to everything in one."""
    made = Cluster(cluster.kubeconfig)
    made.set_up()
    yield made
    made.tear_down()


@pytest.fixture
def network_policies(place: Cluster) -> Iterator[NetworkPolicies]:
    """No network policies yet; none and no Jobs at the end."""
    made = NetworkPolicies(place)
    yield made
    made.tear_down()
    place.forget_jobs()


@pytest.fixture
def strict_node(world, place: Cluster, network_policies: NetworkPolicies, started: list, tmp_path: Path) -> Callable[..., NodeProcess]:
    """Makes a node that runs nothing without isolation, and checks it often; not started yet."""

    def make(**settings) -> NodeProcess:
        config = nodes.kubernetes(world, place, 0, tmp_path)
        config["health"] = {"listen": f"127.0.0.1:{free_port()}"}
        config["kubernetes"] |= {"allow_unisolated": False, "isolation": {"every": "12s"}}
        node = NodeProcess(tmp_path / f"node-{len(started)}", nodes.merged(config, settings))
        started.append(node)
        return node

    return make


@pytest.fixture
def local_node(world: World, started: list[NodeProcess], tmp_path: Path) -> Callable[..., NodeProcess]:
    """Makes a node of the nth organization with the local runtime; not started yet."""

    def make(organization: int = 0, via: FaultProxy | None = None, **settings) -> NodeProcess:
        config = nodes.local(world, organization, tmp_path, port=via.port if via else None)
        node = NodeProcess(tmp_path / f"node-{len(started)}", nodes.merged(config, settings))
        started.append(node)
        return node

    return make


@pytest.fixture
def release(request: pytest.FixtureRequest, cluster: Cluster, world: World) -> Iterator[Callable[..., Release]]:
    """Installs the chart as the node of the nth organization, with these values; removed with its namespaces at the end."""
    made: list[Release] = []
    request.node.releases = made

    def install(organization: int = 0, **values) -> Release:
        made.append(Release(cluster, world, organization, **values))
        return made[-1].install()

    yield install
    for each in made:
        each.remove()


@pytest.fixture
def proxy(world: World) -> Iterator[FaultProxy]:
    """A programmable proxy in front of the server, for nodes made with `via=proxy`."""
    with FaultProxy(world.server.port) as made:
        yield made


@pytest.fixture
def gate(cluster: Cluster, tmp_path: Path) -> Iterator[FaultProxy]:
    """A programmable proxy in front of the API server; `kubeconfig` leads through it, and says nothing else than the node's own."""
    config = yaml.safe_load(cluster.account_kubeconfig(tmp_path).read_text())
    place = config["clusters"][0]["cluster"]
    server = urllib.parse.urlsplit(place["server"])
    authority = place.get("certificate-authority-data")
    tls = ssl.create_default_context(cadata=base64.b64decode(authority).decode() if authority else None)
    if place.get("insecure-skip-tls-verify"):
        tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    with FaultProxy(server.port or 443, host=server.hostname, tls=tls) as made:
        config["clusters"][0]["cluster"] = {"server": f"http://127.0.0.1:{made.port}"}
        made.kubeconfig = tmp_path / "gate.kubeconfig"
        made.kubeconfig.write_text(yaml.safe_dump(config))
        yield made


def pytest_terminal_summary(terminalreporter) -> None:
    """The fault matrix's table, where any of it was tried."""
    reports = [each for kind in ("passed", "failed") for each in terminalreporter.stats.get(kind, [])]
    if written := table.of_reports(reports):
        terminalreporter.section("the fault matrix")
        terminalreporter.write_line(written)
        if file := os.environ.get("SEXTANT_MATRIX_REPORT"):
            Path(file).write_text(written + "\n")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo):
    """A failed test shows what its nodes logged, what the server logged last, and what is in the cluster."""
    report = yield
    if report.failed and call.when in ("setup", "call"):
        for number, node in enumerate(getattr(item, "nodes", [])):
            report.sections.append((f"log of node {number}", node.whole_log()))
        for each in getattr(item, "releases", []):
            report.sections.append((f"release in {each.namespace}", each.describe()))
        fixtures = getattr(item, "funcargs", {})
        if "cluster" in fixtures:
            report.sections.append(("cluster", fixtures["cluster"].describe()))
        if "world" in fixtures:
            report.sections.append(("log of the server, its end", fixtures["world"].server.log_tail(25)))
    return report
