"""What becomes of events on their way from the server: some come twice, some too late, some never. They only say that something can be
seen at the server, so nothing but time depends on them."""

import pytest

from faultproxy import has
from harness.nodes import ODD
from harness.wait import until

pytestmark = pytest.mark.cluster


@pytest.fixture
def node(kubernetes_node, proxy):
    """A node whose events come through the proxy."""
    return kubernetes_node(via=proxy).start_online()


def reports(proxy, run: int) -> int:
    """How many reports of a run the server has taken."""
    return len(proxy.seen("PATCH", f"/run/{run}$", where=has("finished_at")))


def test_events_that_come_twice(node, researcher, world, cluster, proxy):
    """One execution, one report; and one kill."""
    with proxy.events(lambda event: [event, event]):
        task = researcher.ask(ODD, "count", [world.organization()], seconds=1)
        assert len(researcher.result(task)) == 1
        assert reports(proxy, researcher.run(task)["id"]) == 1
        task = researcher.ask(ODD, "sleep", [world.organization()], seconds=100)
        run = researcher.run(task)["id"]
        cluster.until_container(run, "algorithm", "running")
        researcher.client.task.kill(task)
        until("the Job to be marked", lambda: cluster.reported(run) == ["killed by user"], within=40, shows=lambda: cluster.describe(run))
    assert reports(proxy, run) <= 1


def test_a_kill_that_comes_before_its_task(node, researcher, world, cluster, proxy):
    """Nothing is launched any more."""
    late: list[bytes] = []

    def way(event: bytes) -> list[bytes]:
        if b'"kill_containers"' in event:
            return [event, *late]
        late.append(event)
        return []

    with proxy.events(way):
        task = researcher.ask(ODD, "sleep", [world.organization()], seconds=100)
        run = researcher.run(task)["id"]
        until("the task's event", lambda: any(b'"new_task"' in event for event in late))
        assert not cluster.jobs(run)
        researcher.client.task.kill(task)
        until("the kill's event", lambda: "kill" in node.log())
    # The next question is seen after all this.
    assert researcher.result(researcher.ask(ODD, "exit", [world.organization()], code=0)) == "about to exit"
    assert not cluster.jobs(run)
    assert researcher.run(task)["status"] == "killed by user"


def test_events_that_never_come(node, researcher, world, cluster, proxy):
    """The node looks at the server every minute all the same."""
    first = researcher.ask(ODD, "sleep", [world.organization()], seconds=300)
    run = researcher.run(first)["id"]
    cluster.until_container(run, "algorithm", "running")
    with proxy.events(lambda _: []):
        researcher.client.task.kill(first)
        second = researcher.ask(ODD, "count", [world.organization()], seconds=0)
        assert len(researcher.result(second, within=120)) == 1
        until("the Job to be marked", lambda: cluster.reported(run) == ["killed by user"], within=90, shows=lambda: cluster.describe(run))
