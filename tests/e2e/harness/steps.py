"""The steps of a run, each as a moment in which something can go wrong: `with STEPS[name](scene) as moment` asks the odd algorithm's
`count` and stops in that moment. Steps between node and server are held in the proxy, steps in the cluster are watched for."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from faultproxy import FaultProxy, Hold, Request, has

from .cluster import Cluster
from .node import NodeProcess
from .nodes import LONG, ODD
from .researcher import Researcher

RUN = r"/run/\d+$"
REPORT = has("finished_at")


def is_beginning(request: Request) -> bool:
    """Whether it tells the server that a run has begun."""
    return has("started_at")(request) and not REPORT(request)


@dataclass
class Scene:
    """A node whose ways to the server and to the API server both lead through a proxy, and who asks it."""

    node: NodeProcess
    # Before the vantage6 server.
    proxy: FaultProxy
    # Before the API server; None if the node goes there directly.
    gate: FaultProxy | None
    cluster: Cluster
    researcher: Researcher
    organization: int

    def reports_taken(self, run: int) -> int:
        """How many reports of a run the server has taken."""
        return sum(request.status == 200 for request in self.proxy.tried("PATCH", f"/run/{run}$", where=REPORT))

    def reported_once(self, run: int) -> bool:
        """Whether the server took one report of a run. One that was killed at that moment may have taken it without saying so."""
        tried = self.proxy.tried("PATCH", f"/run/{run}$", where=REPORT)
        taken = self.reports_taken(run)
        return taken == 1 or (not taken and any(request.status is None for request in tried))

    def ask(self, seconds: float = 1) -> tuple[int, int]:
        """Asks for something that takes a while and says how often it was executed; ids of task and run."""
        task = self.researcher.ask(ODD, "count", [self.organization], seconds=seconds)
        return task, self.researcher.run(task)["id"]


@dataclass
class Moment:
    """A task whose run stands at a step."""

    task: int
    # The request that is held, if the step is one between node and server: dropped in the end, unless it is let go.
    held: Hold | None = None
    # The run whose algorithm works until it is released, if that is the step.
    works: int | None = None


Step = Callable[[Scene], contextlib.AbstractContextManager[Moment]]
STEPS: dict[str, Step] = {}


def step(function: Callable[[Scene], Iterator[Moment]]) -> Step:
    """Enters it under its name, in the order of a run's way."""
    made = contextlib.contextmanager(function)
    STEPS[function.__name__] = made
    return made


@contextlib.contextmanager
def at(scene: Scene, method: str, path: str, where: Callable[[Request], bool], after: bool = False) -> Iterator[Moment]:
    """The moment of a request."""
    with scene.proxy.hold(method, path, where=where, after=after) as held:
        task, _ = scene.ask()
        held.wait()
        yield Moment(task, held)


@step
def announced(scene: Scene) -> Iterator[Moment]:
    """The node has asked for the run, and has not heard of it yet."""
    with at(scene, "GET", r"/run$", lambda request: "task_id" in request.query, after=True) as moment:
        yield moment


@step
def created(scene: Scene) -> Iterator[Moment]:
    """The Job is there, and nothing else yet."""
    task, run = scene.ask()
    for job in scene.cluster.until_job_created():
        if job.metadata.labels.get("vantage6.ai/run") == str(run):
            break
    yield Moment(task)


@step
def beginning(scene: Scene) -> Iterator[Moment]:
    """The node is about to say that the run has begun."""
    with at(scene, "PATCH", RUN, is_beginning) as moment:
        yield moment


@step
def begun(scene: Scene) -> Iterator[Moment]:
    """The server knows that the run has begun, and the node hasn't heard that it does."""
    with at(scene, "PATCH", RUN, is_beginning, after=True) as moment:
        yield moment


@step
def receiving(scene: Scene) -> Iterator[Moment]:
    """The pod's first container asks for the algorithm's token, and the node asks the server for it."""
    with at(scene, "POST", r"/token/container$", lambda _: True) as moment:
        yield moment


@step
def running(scene: Scene) -> Iterator[Moment]:
    """The algorithm is in the middle of its work."""
    task, run = scene.ask(seconds=LONG)
    scene.cluster.until_container(run, "algorithm", "running")
    yield Moment(task, works=run)


@step
def returning(scene: Scene) -> Iterator[Moment]:
    """The algorithm has ended; its output waits in the pod, or is on its way to the node."""
    task, run = scene.ask(seconds=0)
    scene.cluster.until_container(run, "algorithm", "terminated")
    yield Moment(task)


@step
def reporting(scene: Scene) -> Iterator[Moment]:
    """The report is on its way, and the server doesn't have it."""
    with at(scene, "PATCH", RUN, REPORT) as moment:
        yield moment


@step
def reported(scene: Scene) -> Iterator[Moment]:
    """The server has the report, and the node hasn't heard that it does."""
    with at(scene, "PATCH", RUN, REPORT, after=True) as moment:
        yield moment
