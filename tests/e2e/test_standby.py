"""Two processes with one API key: one acts, the other stands by; and the run that is under way doesn't notice a change."""

import time

import pytest
import yaml

from faultproxy import has
from harness.node import ELSEWHERE, NodeProcess, free_port
from harness.nodes import AVERAGE, LONG, ODD
from harness.tcp import Relay
from harness.wait import until

REPORT = has("finished_at")
RUN = r"/run/\d+$"
# What the issue promises.
WITHIN = 15


def test_local(local_node, proxy, researcher, world, tmp_path):
    """With the local runtime a locked file decides. The second is not online, says why, and goes on with the first one's run."""
    first = local_node(via=proxy).start_online()
    second = local_node(via=proxy, health={"listen": f"127.0.0.1:{free_port()}"}).start()
    second.wait_log("stands by")
    status, why = second.readiness()
    assert status == 503
    assert "another process of this node is the leader" in why
    assert "online" not in second.log()

    task = researcher.ask(AVERAGE, "sleep_then", [world.organization()], seconds=LONG, value="slept", unless=str(tmp_path / "enough"))
    until("the algorithm to run", lambda: researcher.run(task)["status"] == "active")
    first.kill()
    killed = time.monotonic()
    second.wait_online(WITHIN)
    print(f"took over within {time.monotonic() - killed:.1f} s")
    (tmp_path / "enough").touch()
    assert researcher.result(task) == "slept"
    assert len(proxy.seen("PATCH", RUN, where=REPORT)) == 1
    until("the second to be ready", lambda: second.readiness()[0] == 200, within=10)


@pytest.fixture
def pair(kubernetes_node, proxy):
    """Makes two nodes with the same key, account and data port; not started yet."""

    def make(prefix: tuple[str, ...] = (), **settings) -> tuple[NodeProcess, NodeProcess]:
        data_port = {"data_port": {"listen": f"0.0.0.0:{free_port()}"}}
        first = kubernetes_node(via=proxy, kubernetes=data_port | settings)
        first.prefix = prefix
        return first, kubernetes_node(via=proxy, kubernetes=data_port, health={"listen": f"127.0.0.1:{free_port()}"})

    return make


@pytest.fixture
def exactly_once(researcher, cluster, proxy):
    """Checks that a run of the odd algorithm's `count` was executed once and reported once."""

    def check(task: int) -> None:
        executions = researcher.result(task)
        assert len(executions) == 1, f"executed {len(executions)} times: {executions}"
        run = researcher.run(task)
        assert len(proxy.seen("PATCH", f"/run/{run['id']}$", where=REPORT)) == 1
        job = cluster.until_job_complete(run["id"])
        assert [each.metadata.uid for each in cluster.jobs(run["id"])] == [job.metadata.uid]

    return check


def stand_by(second: NodeProcess) -> None:
    """Starts the second one, and sees that it waits."""
    second.start().wait_log("stands by")
    status, why = second.readiness()
    assert status == 503
    assert "lease: stands by: process" in why
    assert "online" not in second.log()


@pytest.mark.cluster
@pytest.mark.parametrize(
    ("ends", "prefix", "within"),
    [(NodeProcess.kill, ELSEWHERE, WITHIN), (NodeProcess.terminate, (), 4)],
    ids=["gone with its machine", "stopped"],
)
def test_the_first_one_ends(ends, prefix, within, pair, researcher, cluster, world, exactly_once):
    """SIGKILL, with nobody there to see it: after ten seconds of silence the second takes over, in the middle of a run. SIGTERM: the lease
    is given back, and the second needn't wait."""
    first, second = pair(prefix=prefix)
    first.start_online()
    stand_by(second)
    task = researcher.ask(ODD, "count", [world.organization()], seconds=LONG)
    run = researcher.run(task)["id"]
    cluster.until_container(run, "algorithm", "running")
    ends(first)
    ended = time.monotonic()
    second.wait_online(WITHIN)
    took = time.monotonic() - ended
    print(f"took over within {took:.1f} s")
    assert took < within
    cluster.release(run)
    exactly_once(task)
    researcher.until_node(world.node(), "online")


@pytest.mark.cluster
def test_the_first_one_is_killed_on_this_machine(kubernetes_node):
    """A restart after SIGKILL doesn't wait: that the old process is gone can be seen."""
    node = kubernetes_node().start_online()
    node.kill()
    began = time.monotonic()
    node.start_online()
    print(f"online after {time.monotonic() - began:.1f} s")
    assert "stands by" not in node.log()


@pytest.mark.cluster
def test_the_first_one_is_frozen(pair, researcher, cluster, world, exactly_once):
    """SIGSTOP for as long as it takes to be replaced. Thawed, it acts no more, but stands by; and the node is shown as online."""
    first, second = pair()
    first.start_online()
    stand_by(second)
    task = researcher.ask(ODD, "count", [world.organization()], seconds=LONG)
    run = researcher.run(task)["id"]
    cluster.until_container(run, "algorithm", "running")
    first.freeze()
    cluster.release(run)
    second.wait_log("takes over", WITHIN)
    # On one machine, both have one data port.
    second.wait_log("still has the port")
    first.thaw()
    first.wait_log("has taken over from this process")
    exactly_once(task)
    first.wait_log(r"(?s)This one stands by")
    time.sleep(2)
    researcher.until_node(world.node(), "online")
    assert first.running


@pytest.fixture
def relay(cluster, tmp_path):
    """A relay in front of the API server, and a kubeconfig that leads through it."""
    config = yaml.safe_load(cluster.account_kubeconfig(tmp_path).read_text())
    place = config["clusters"][0]["cluster"]
    host, port = place["server"].removeprefix("https://").rsplit(":", 1)
    with Relay(host, int(port)) as made:
        place |= {"server": f"https://127.0.0.1:{made.port}", "tls-server-name": host}
        file = tmp_path / "relay.kubeconfig"
        file.write_text(yaml.safe_dump(config))
        made.kubeconfig = str(file)
        yield made


@pytest.mark.cluster
def test_the_first_one_is_cut_off(pair, relay, researcher, cluster, world, exactly_once):
    """It can't reach the API server, but the other can: the other takes over. Back again, the first one stands by."""
    first, second = pair(kubeconfig=relay.kubeconfig, data_port={"address": cluster.host_address(), "listen": f"0.0.0.0:{free_port()}"})
    first.start_online()
    stand_by(second)
    relay.cut()
    first.wait_log("nothing is started or reported", WITHIN)
    second.wait_online(WITHIN)
    task = researcher.ask(ODD, "count", [world.organization()], seconds=1)
    exactly_once(task)
    relay.mend()
    first.wait_log("has taken over from this process")
    first.wait_log("This one stands by")


@pytest.mark.cluster
def test_the_api_server_is_away(kubernetes_node, relay, researcher, cluster, world, exactly_once, proxy):
    """For twelve seconds, with nobody standing by: the node stays online, and reports what has ended meanwhile."""
    address = {"address": cluster.host_address()}
    node = kubernetes_node(via=proxy, kubernetes={"kubeconfig": relay.kubeconfig, "data_port": address}).start_online()
    task = researcher.ask(ODD, "count", [world.organization()], seconds=LONG)
    run = researcher.run(task)["id"]
    cluster.until_container(run, "algorithm", "running")
    relay.cut()
    cluster.release(run)
    node.wait_log("nothing is started or reported", WITHIN)
    cluster.until_container(run, "algorithm", "terminated")
    assert researcher.node_status(world.node()) == "online"
    relay.mend()
    node.wait_log("is renewed again")
    exactly_once(task)
    assert "Restarting:" not in node.log()


@pytest.mark.cluster
def test_connections_to_the_api_server_die_in_silence(kubernetes_node, relay, researcher, cluster, world, exactly_once, proxy):
    """As when a firewall forgets them: a connection that says nothing is not believed for more than half a minute."""
    address = {"address": cluster.host_address()}
    node = kubernetes_node(via=proxy, kubernetes={"kubeconfig": relay.kubeconfig, "data_port": address}).start_online()
    task = researcher.ask(ODD, "count", [world.organization()], seconds=LONG)
    run = researcher.run(task)["id"]
    cluster.until_container(run, "algorithm", "running")
    relay.silence()
    cluster.release(run)
    began = time.monotonic()
    researcher.finished(task, within=120, node=node)
    print(f"reported after {time.monotonic() - began:.0f} s")
    exactly_once(task)
