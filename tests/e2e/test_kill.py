"""A researcher changes their mind: what is under way is stopped, and what has ended stays as it was."""

import contextlib

import pytest

from faultproxy import has
from harness.images import Registry
from harness.nodes import ODD
from harness.wait import until

pytestmark = pytest.mark.cluster


@pytest.mark.versions
@pytest.mark.parametrize("method", ["sleep", "stubborn"])
def test_a_run_is_killed(method, kubernetes_node, researcher, world, cluster):
    """`client.task.kill` ends the algorithm, even one that ignores SIGTERM; the status says who wanted it."""
    kubernetes_node().start_online()
    task = researcher.ask(ODD, method, [world.organization()], seconds=100)
    run = researcher.run(task)["id"]
    cluster.until_container(run, "algorithm", "running")
    researcher.client.task.kill(task)
    (killed,) = researcher.finished(task, within=40)
    assert killed["status"] == "killed by user"
    until(
        "the algorithm to be gone",
        lambda: (status := cluster.container(run, "algorithm")) is None or status.state.running is None,
        within=30,
        shows=lambda: cluster.describe(run),
    )


@pytest.mark.versions
def test_what_has_ended_stays(kubernetes_node, researcher, world):
    """Killing a task that is over changes nothing, and the node serves on."""
    kubernetes_node().start_online()
    task = researcher.ask(ODD, "exit", [world.organization()], code=0)
    assert researcher.result(task) == "about to exit"
    researcher.client.task.kill(task)
    second = researcher.ask(ODD, "exit", [world.organization()], code=0)
    assert researcher.result(second) == "about to exit"
    assert researcher.run(task)["status"] == "completed"


def gone(cluster, run) -> None:
    """Nothing of the run is left that runs or waits."""
    until(
        "the end of the run's pods",
        lambda: all(pod.status.phase in ("Succeeded", "Failed") for pod in cluster.pods(run)),
        within=40,
        shows=lambda: cluster.describe(run),
    )
    assert cluster.reported(run) == ["killed by user"]


@contextlib.contextmanager
def pending(scene):
    """No machine has room."""
    scene.node(kubernetes={"resources": {"requests": {"cpu": "900"}}}).start_online()
    run = scene.ask(ODD)
    until("the pod", lambda: scene.cluster.pods(run))
    yield run


@contextlib.contextmanager
def pulling(scene):
    """The image is on its way."""
    scene.node().start_online()
    with contextlib.closing(Registry(scene.folder)) as registry, registry.held():
        run = scene.ask(registry.image("odd"))
        scene.cluster.until_container(run, "receive", "terminated")
        yield run


@contextlib.contextmanager
def receiving(scene):
    """The pod's first container waits for the token, which the server doesn't give."""
    scene.node(via=scene.proxy).start_online()
    with scene.proxy.refuse("POST", r"/token/container$", 503):
        run = scene.ask(ODD)
        scene.cluster.until_container(run, "receive", "running")
        yield run


@contextlib.contextmanager
def waiting_for_an_image(scene):
    """The registry is not there."""
    scene.node().start_online()
    run = scene.ask("127.0.0.1:1/nobody/there:1")

    def waits() -> bool:
        status = scene.cluster.container(run, "algorithm")
        return bool(status and status.state.waiting and status.state.waiting.reason in ("ErrImagePull", "ImagePullBackOff"))

    until("the pull to fail", waits)
    yield run


class Scene:
    """What a state needs to be reached."""

    def __init__(self, node, researcher, world, cluster, proxy, folder):
        self.node, self.researcher, self.world, self.cluster = node, researcher, world, cluster
        self.proxy, self.folder = proxy, folder
        self.task = None

    def ask(self, image: str) -> int:
        self.task = self.researcher.ask(image, "sleep", [self.world.organization()], seconds=100)
        return self.researcher.run(self.task)["id"]


@pytest.fixture
def scene(kubernetes_node, researcher, world, cluster, proxy, tmp_path):
    """A node is started by each state itself."""
    return Scene(kubernetes_node, researcher, world, cluster, proxy, tmp_path)


@pytest.mark.parametrize("state", [pending, pulling, receiving, waiting_for_an_image], ids=lambda state: state.__name__)
def test_before_it_runs(state, scene, researcher, cluster):
    """Whatever the run waits for: it ends, and nothing of it starts later."""
    with state(scene) as run:
        researcher.client.task.kill(scene.task)
        (killed,) = researcher.finished(scene.task, within=40)
        assert killed["status"] == "killed by user"
        until("the Job to be done with", lambda: cluster.reported(run) == ["killed by user"])
    # A machine that pulls an image ends the pod after that.
    gone(cluster, run)


def test_while_its_output_is_on_its_way(kubernetes_node, researcher, world, cluster, proxy):
    """The server has the kill before the report: it stays killed, and the Job doesn't wait for ever."""
    kubernetes_node(via=proxy).start_online()
    with proxy.hold("PATCH", r"/run/\d+$", where=has("finished_at")) as held:
        task = researcher.ask(ODD, "exit", [world.organization()], code=0)
        held.wait()
        researcher.client.task.kill(task)
        held.let_go()
        (run,) = researcher.finished(task)
    assert run["status"] == "killed by user"
    gone(cluster, run["id"])


def test_after_its_report(kubernetes_node, researcher, world, cluster, proxy):
    """The server has the report, the node has not heard so, and somebody wants the run killed: its result stays."""
    kubernetes_node(via=proxy).start_online()
    with proxy.hold("PATCH", r"/run/\d+$", where=has("finished_at"), after=True) as held:
        task = researcher.ask(ODD, "exit", [world.organization()], code=0)
        held.wait()
        with contextlib.suppress(Exception):
            researcher.client.task.kill(task)
    assert researcher.result(task) == "about to exit"
    cluster.until_job_complete(researcher.run(task)["id"])


def test_while_the_node_is_away(kubernetes_node, researcher, world, cluster):
    """Nobody hears of it; the next start ends the run."""
    node = kubernetes_node().start_online()
    task = researcher.ask(ODD, "stubborn", [world.organization()], seconds=100)
    run = researcher.run(task)["id"]
    cluster.until_container(run, "algorithm", "running")
    node.kill()
    researcher.client.task.kill(task)
    assert researcher.run(task)["status"] == "killed by user"
    node.start_online()
    gone(cluster, run)


def test_while_the_connection_is_broken(kubernetes_node, researcher, world, cluster, proxy):
    """The event is lost, and the node goes on; it sees it at its return."""
    kubernetes_node(via=proxy).start_online()
    task = researcher.ask(ODD, "sleep", [world.organization()], seconds=100)
    run = researcher.run(task)["id"]
    cluster.until_container(run, "algorithm", "running")
    with proxy.away():
        researcher.client.task.kill(task)
    gone(cluster, run)


def test_everything_of_a_node(kubernetes_node, researcher, world, cluster):
    """`kill/node/tasks`: no list of runs comes with it, and the server leaves it to the node to report them."""
    kubernetes_node().start_online()
    organization = world.organization()
    tasks = [researcher.ask(ODD, "sleep", [organization], seconds=100) for _ in range(3)]
    runs = [researcher.run(task)["id"] for task in tasks]
    for run in runs:
        cluster.until_container(run, "algorithm", "running")
    researcher.until_node(world.node(), "online")
    world.server.request("POST", "/kill/node/tasks", {"id": world.node()})
    for task, run in zip(tasks, runs, strict=True):
        (killed,) = researcher.finished(task, within=40)
        assert killed["status"] == "killed by user"
        assert "killed at a user's request" in killed["log"]
        gone(cluster, run)


def test_a_task_with_its_subtasks(kubernetes_node, researcher, world, cluster):
    """Killing a task ends what its algorithm has asked for, too."""
    kubernetes_node().start_online()
    parent = researcher.ask(ODD, "sleep", [world.organization()], seconds=100)
    cluster.until_container(researcher.run(parent)["id"], "algorithm", "running")
    child = world.subtask(parent, ODD, "sleep", [world.organization()], seconds=100)
    cluster.until_container(researcher.run(child)["id"], "algorithm", "running")
    researcher.client.task.kill(parent)
    for task in (parent, child):
        (killed,) = researcher.finished(task, within=40)
        assert killed["status"] == "killed by user"
        gone(cluster, killed["id"])
