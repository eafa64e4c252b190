"""What operators get wrong, and what happens around a node: clear messages, exit codes that mean something, and patience."""

import copy
import re
from pathlib import Path

import pytest
import yaml

from faultproxy import FaultProxy, answer
from harness.cluster import Cluster
from harness.node import free_port
from harness.nodes import AVERAGE, LONG
from harness.steps import REPORT, RUN
from harness.wait import until

# The exit codes of `sextant node`.
CONFIGURATION, SERVER_REFUSES, CLUSTER_UNUSABLE = 2, 3, 4


def test_wrong_api_key(local_node):
    """The server says no: trying again would not help, so the node ends and says why."""
    node = local_node(api_key="not-the-key").start()
    assert node.wait_end() == SERVER_REFUSES
    assert re.search(r"API key|api_key", node.log())
    assert "not-the-key" not in node.log()


def test_server_that_is_not_there_yet(local_node, world):
    """Nobody listens: the node says where it tried, goes on trying, and is online when the server appears."""
    port = free_port()
    node = local_node(port=port).start()
    node.wait_log(rf"127\.0\.0\.1:{port}")
    assert node.running
    with FaultProxy(world.server.port, port):
        node.wait_online(within=60)
        world.researcher.until_node(world.node(), "online")


def test_server_that_goes_away_and_returns(local_node, world, proxy):
    """The connection breaks while nothing is to be done; a task asked for in the meantime is found after the return."""
    node = local_node(via=proxy).start_online()
    with proxy.away():
        world.researcher.until_node(world.node(), "offline", within=40)
        task = world.researcher.ask(AVERAGE, "echo", [world.organization()], value=42)
    assert world.researcher.result(task, within=90) == 42
    assert node.running


def test_api_key_that_is_revoked_while_a_run_is_under_way(local_node, world, proxy, tmp_path):
    """The node says so and loses nothing: where the key is good again (somebody revoked the wrong one), the run is reported."""
    node = local_node(via=proxy).start_online()
    task = world.researcher.ask(AVERAGE, "sleep_then", [world.organization()], seconds=LONG, value="kept", unless=str(tmp_path / "enough"))
    until("the algorithm to run", lambda: world.researcher.run(task)["status"] == "active")
    with proxy.saying(answer(401, '{"msg": "Api key is not recognized!"}')):
        proxy.cut()
        node.wait_log(r"API key|api_key", within=60)
        (tmp_path / "enough").touch()
        assert node.running
    assert world.researcher.result(task) == "kept"
    assert len(proxy.seen("PATCH", RUN, where=REPORT)) == 1


def test_configuration_without_api_key(local_node):
    """What is missing is named, with the file."""
    node = local_node(api_key=None).start()
    assert node.wait_end() == CONFIGURATION
    assert "api_key" in node.log()
    assert node.config_file.name in node.log()


def kubeconfig_at(port: int, cluster: Cluster, folder: Path) -> Path:
    """The node's kubeconfig, but with a port of this machine in the cluster's place."""
    config = yaml.safe_load(cluster.account_kubeconfig(folder).read_text())
    config["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{port}"
    file = folder / "elsewhere.kubeconfig"
    file.write_text(yaml.safe_dump(config))
    return file


@pytest.mark.cluster
def test_cluster_that_is_not_there(kubernetes_node, tmp_path, cluster):
    """Nobody listens at the kubeconfig's address: the node names it."""
    elsewhere = free_port()
    node = kubernetes_node()
    node.config["kubernetes"]["kubeconfig"] = str(kubeconfig_at(elsewhere, cluster, tmp_path))
    node.write_config()
    node.start()
    node.wait_log_anyhow(rf"127\.0\.0\.1:{elsewhere}")
    assert node.running or node.process.returncode == CLUSTER_UNUSABLE


@pytest.mark.cluster
def test_what_is_fatal_is_told_although_the_other_side_is_away(kubernetes_node, tmp_path, cluster):
    """Neither a cluster nor a server that is away keeps the node from ending with what can't get better by waiting."""
    away = kubeconfig_at(free_port(), cluster, tmp_path)
    node = kubernetes_node(api_key="00000000-0000-4000-8000-000000000000", kubernetes={"kubeconfig": str(away)}).start()
    assert node.wait_end() == SERVER_REFUSES
    assert "does not know this API key" in node.log()

    node = kubernetes_node(port=free_port(), kubernetes={"namespace": "no-such-namespace"}).start()
    assert node.wait_end() == CLUSTER_UNUSABLE
    assert "no-such-namespace" in node.log()


@pytest.mark.cluster
def test_kubeconfig_that_does_not_exist(kubernetes_node):
    """The file is named."""
    node = kubernetes_node(kubernetes={"kubeconfig": "/no/such/kubeconfig"}).start()
    assert node.wait_end() in (CONFIGURATION, CLUSTER_UNUSABLE)
    assert "/no/such/kubeconfig" in node.log()


@pytest.mark.cluster
def test_namespace_that_does_not_exist(kubernetes_node):
    """The namespace is named."""
    node = kubernetes_node(kubernetes={"namespace": "no-such-namespace"}).start()
    assert node.wait_end() == CLUSTER_UNUSABLE
    assert "no-such-namespace" in node.log()


@pytest.mark.cluster
@pytest.mark.parametrize(
    ("resource", "verb"),
    [("jobs", "create"), ("pods", "watch"), ("pods/log", "get"), ("secrets", "create"), ("leases", "update")],
)
def test_a_permission_is_missing(kubernetes_node, cluster, tmp_path, resource, verb):
    """An account with all rights of the chart's Role but one: the message names the verb, the resource and the namespace."""
    rules = copy.deepcopy(cluster.node_rules())
    for rule in rules:
        if resource in rule["resources"]:
            rule["verbs"].remove(verb)
    account = f"without-{verb}-{resource.replace('/', '-')}"
    cluster.limited_account(account, [rule for rule in rules if rule["verbs"]])

    node = kubernetes_node(kubernetes={"kubeconfig": str(cluster.account_kubeconfig(tmp_path, account))}).start()
    assert node.wait_end() == CLUSTER_UNUSABLE
    node.wait_log_anyhow(rf"(?s){verb}.*{resource}|{resource}.*{verb}")
    assert cluster.jobs_namespace in node.log()
