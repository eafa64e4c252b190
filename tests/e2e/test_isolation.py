"""Network isolation: a node that has not confirmed it runs nothing, says what is open, and starts runs once it is confirmed."""

import socket

import pytest

from harness.node import free_port
from harness.nodes import LONG, ODD
from harness.policies import ISOLATED, OPEN
from harness.wait import until

pytestmark = pytest.mark.cluster


@pytest.mark.versions
def test_a_node_without_isolation_runs_nothing_until_it_is_confirmed(strict_node, network_policies, place, world, researcher):
    """It names what is open; the run waits at the server, without a Job; and it starts as soon as the isolation is confirmed."""
    node = strict_node().start_online()
    task = researcher.ask(ODD, "exit", [world.organization()], code=0)
    line = node.wait_log(OPEN, within=60)
    for open_way in ("the API server", "the kubelet of its own machine", "another algorithm's pod"):
        assert open_way in line, line
    status, why = node.readiness()
    assert status == 503 and "the API server" in why, why
    run = researcher.run(task)
    assert (run["status"], run["started_at"]) == ("pending", None)
    assert not place.jobs(run["id"])

    network_policies.build(node)
    assert researcher.result(task) == "about to exit"
    node.wait_log(ISOLATED)
    until("the node to be ready", lambda: node.readiness()[0] == 200, shows=lambda: node.readiness())


@pytest.mark.versions
def test_lost_isolation_stops_new_runs_and_names_those_that_continue(strict_node, network_policies, world, researcher, place):
    """What is under way goes on and is reported, and the operator is told of it; what comes later waits."""
    node = strict_node()
    network_policies.build(node)
    node.start_online()
    node.wait_log(ISOLATED, within=60)
    under_way = researcher.ask(ODD, "sleep", [world.organization()], seconds=LONG)
    run = researcher.run(under_way)["id"]
    place.until_container(run, "algorithm", "running")

    network_policies.tear_down()
    node.wait_log(OPEN, within=60)
    node.wait_log(rf"still running: run {run}\b")
    later = researcher.ask(ODD, "exit", [world.organization()], code=0)
    place.release(run)
    assert researcher.finished(under_way)[0]["status"] == "completed"
    assert researcher.run(later)["status"] == "pending"

    network_policies.build(node)
    assert researcher.result(later) == "about to exit"


def test_the_pod_that_listens_leaves_no_job_behind(strict_node, network_policies, place):
    """It is ended when its proof is over, which Kubernetes calls a failure: its Job goes with it, so that a healthy node leaves none that
    failed."""
    node = strict_node(kubernetes={"isolation": {"every": "1h"}})
    network_policies.build(node)
    node.start_online()
    node.wait_log(ISOLATED, within=60)

    def left() -> list:
        return place.batch.list_namespaced_job(place.jobs_namespace, label_selector="vantage6.ai/probe=neighbour").items

    until("the listening pod's Job to go", lambda: not left(), within=20)


def test_nobody_gets_in_from_another_namespace(strict_node, network_policies, place, world, researcher):
    """A pod that may go anywhere doesn't reach an algorithm that listens; nor does it where only the policy of the node's runs is left,
    which is the one whose presence the node's proof shows."""
    node = strict_node()
    network_policies.build(node)
    node.start_online()
    task = researcher.ask(ODD, "listen", [world.organization()], port=9999)
    run = researcher.run(task)["id"]
    place.until_container(run, "algorithm", "running")
    address = f"{place.pods(run)[0].status.pod_ip}:9999"
    assert network_policies.knock(address) != "open"

    network_policies.tear_down("sextant-closed")
    # For as long as the network takes to hear of it, and longer.
    assert "open" not in [network_policies.knock(address) for _ in range(3)]

    network_policies.tear_down()
    until("the algorithm to be reached without policies", lambda: network_policies.knock(address) == "open", within=60)
    researcher.client.task.kill(task)


def test_a_node_that_pods_do_not_reach_runs_nothing(strict_node, network_policies, world, researcher):
    """The data port's policy is missing, and the node says that its pods don't reach it."""
    node = strict_node()
    network_policies.build(node)
    (key,) = {
        each.metadata.name for each in network_policies.api.list_namespaced_network_policy(network_policies.cluster.jobs_namespace).items
    } - {"sextant-closed"}
    network_policies.tear_down(key)
    node.start_online()
    line = node.wait_log("do NOT reach what they need", within=90)
    assert "the node's data port" in line and "there is no answer" in line, line
    assert OPEN not in node.log()
    task = researcher.ask(ODD, "exit", [world.organization()], code=0)
    assert node.readiness()[0] == 503
    assert researcher.run(task)["status"] == "pending"


def test_a_node_that_allows_unisolated_runs_warns_loudly(strict_node, world, researcher):
    """For trials: runs start at once, and the log says loudly what that means."""
    node = strict_node(kubernetes={"allow_unisolated": True}).start_online()
    task = researcher.ask(ODD, "exit", [world.organization()], code=0)
    assert researcher.result(task) == "about to exit"
    line = node.wait_log("ALGORITHMS ARE NOT ISOLATED", within=60)
    assert "the API server" in line and "invented data only" in line, line
    assert node.readiness()[0] == 200


def test_what_the_operator_names_is_tried_too(strict_node, network_policies, place):
    """`kubernetes.isolation.closed`: a hole that somebody else's policy makes is found, also while nobody listens behind it."""
    host, port = place.host_address(), free_port()
    node = strict_node(kubernetes={"isolation": {"closed": [f"{host}:{port}"]}})
    network_policies.build(node)
    hole = {"to": [{"ipBlock": {"cidr": f"{host}/32"}}], "ports": [{"port": port}]}
    place.create(
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": {"name": "a-hole", "namespace": place.jobs_namespace},
            "spec": {"podSelector": {}, "policyTypes": ["Egress"], "egress": [hole]},
        }
    )
    node.start_online()
    line = node.wait_log(OPEN, within=60)
    assert f"({host}:{port}) can be reached: it refuses the connection itself" in line, line
    network_policies.tear_down("a-hole")
    node.wait_log(ISOLATED, within=60)


class TestDoctor:
    """`sextant doctor`: one line for each thing, and an exit code."""

    def test_before_the_first_start(self, strict_node, network_policies):
        """No node runs, so doctor stands in for it while a pod tries to reach it."""
        node = strict_node()
        looked = node.tool("doctor")
        assert looked.returncode == 0, looked.stdout + looked.stderr
        for subject in ("server", "login", "encryption", "cluster", "rights", "data port"):
            assert f"ok     {subject} " in looked.stdout, looked.stdout
        assert "?      isolation" in looked.stdout

        without = node.tool("doctor", "--isolation")
        assert without.returncode == 1 and "WRONG  isolation" in without.stdout, without.stdout
        assert "the API server" in without.stdout
        network_policies.build(node)
        isolated = node.tool("doctor", "--isolation")
        assert isolated.returncode == 0 and "ok     isolation" in isolated.stdout, isolated.stdout

    def test_beside_a_node_that_runs(self, strict_node, network_policies, world, researcher):
        """It finds the node at its data port, and does not disturb it."""
        node = strict_node()
        network_policies.build(node)
        node.start_online()
        task = researcher.ask(ODD, "sleep", [world.organization()], seconds=10)
        looked = node.tool("doctor", "--isolation")
        assert looked.returncode == 0, looked.stdout
        assert "the node that runs here answers" in looked.stdout
        assert researcher.finished(task)[0]["status"] == "completed"

    def test_another_node_in_the_namespace(self, strict_node, network_policies, place):
        """Its Jobs tell of it, and where its own runs find it: this node's must not reach that."""
        with socket.create_server(("0.0.0.0", 0)) as listener:
            address = f"{place.host_address()}:{listener.getsockname()[1]}"
            receive = {"name": "receive", "image": ODD, "env": [{"name": "SEXTANT_DATA_ADDRESS", "value": address}]}
            pod = {"restartPolicy": "Never", "initContainers": [receive], "containers": [{"name": "algorithm", "image": ODD}]}
            labels = {"app.kubernetes.io/name": "sextant", "vantage6.ai/node-key": "fedcba9876"}
            job = {"suspend": True, "template": {"spec": pod}}
            place.batch.create_namespaced_job(place.jobs_namespace, {"metadata": {"name": "theirs", "labels": labels}, "spec": job})
            node = strict_node()
            looked = node.tool("doctor", "--isolation")
            (line,) = [line for line in looked.stdout.splitlines() if line.startswith("?      namespace")]
            assert "fedcba9876" in line, looked.stdout
            open_way = f"the data port of another node in this namespace (node key fedcba9876) ({address}) can be reached"
            assert open_way in looked.stdout, looked.stdout
            network_policies.build(node)
            looked = node.tool("doctor", "--isolation")
            assert looked.returncode == 0 and "ok     isolation" in looked.stdout, looked.stdout

    def test_what_is_wrong_is_named(self, strict_node):
        """A wrong key, a wrong cluster: each in its line, with what is right beside it."""
        looked = strict_node(api_key="not-the-key").tool("doctor")
        assert looked.returncode == 1
        assert "ok     server" in looked.stdout and "WRONG  login" in looked.stdout, looked.stdout
        looked = strict_node(port=free_port(), kubernetes={"namespace": "no-such-namespace"}).tool("doctor")
        assert looked.returncode == 1
        assert "WRONG  server" in looked.stdout and "WRONG  rights" in looked.stdout, looked.stdout
        assert "no-such-namespace" in looked.stdout
        assert strict_node(server_url="nowhere").tool("doctor").returncode == 2
