"""A soak: random tasks, random faults and disruptions, one upon the other, and in the end every run has ended as its task had to, and was
executed and reported once. `make soak` lasts 15 minutes; otherwise it is half a minute. The seed is printed; SEXTANT_SOAK_SEED brings one back."""

import contextlib
import json
import os
import random
import threading
import time
from dataclasses import dataclass

import pytest
from kubernetes import client
from kubernetes.client.exceptions import ApiException

from faultproxy import FaultProxy
from harness.cluster import Cluster
from harness.faults import FAULTS
from harness.nodes import ODD
from harness.researcher import FINISHED
from harness.steps import Scene
from harness.wait import until

SECONDS = float(os.environ.get("SEXTANT_SOAK_SECONDS", "30"))
SEED = int(os.environ.get("SEXTANT_SOAK_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 31)
# Runs that are not finished, at most: two busy cores start a pod in some seconds.
UNDER_WAY = 12
# How long a task may take once nothing goes wrong any more.
PATIENCE = 240

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(SECONDS + PATIENCE + 120)]


@dataclass
class Expected:
    """What has to become of a task."""

    statuses: set[str]
    # Whether it says how often it was executed.
    counts: bool = False
    killed: bool = False


class Researching(threading.Thread):
    """Asks for things as long as it is let, by the server's own port: faults are the node's business."""

    def __init__(self, scene: Scene, chance: random.Random):
        super().__init__(daemon=True)
        self.scene = scene
        self.chance = chance
        self.tasks: dict[int, Expected] = {}
        self.problem: BaseException | None = None
        self.enough = threading.Event()

    def run(self) -> None:
        try:
            while not self.enough.is_set():
                # The server may just be away.
                with contextlib.suppress(OSError, KeyError, AssertionError, json.JSONDecodeError):
                    self.turn()
                self.enough.wait(self.chance.uniform(0.2, 2))
        except BaseException as problem:
            self.problem = problem

    def turn(self) -> None:
        """One more task; sometimes an older one is killed."""
        open_ones = [task for task in self.tasks if not self.scene.researcher.run(task)["finished_at"]]
        if len(open_ones) < UNDER_WAY:
            task, expected = self.ask()
            self.tasks[task] = expected
        if open_ones and self.chance.random() < 0.1:
            task = self.chance.choice(open_ones)
            self.tasks[task].killed = True
            self.scene.researcher.client.task.kill(task)

    def ask(self) -> tuple[int, Expected]:
        ask = lambda *args, **kwargs: self.scene.researcher.ask(*args, [self.scene.organization], **kwargs)  # noqa: E731
        match self.chance.choices(["count", "output", "exit", "silent", "image"], [10, 3, 2, 1, 1])[0]:
            case "count":
                return ask(ODD, "count", seconds=round(self.chance.uniform(0, 6), 1)), Expected({"completed"}, counts=True)
            case "output":
                return ask(ODD, "output", bytes=self.chance.randrange(1, 2_000_000)), Expected({"completed"})
            case "exit":
                return ask(ODD, "exit", code=self.chance.randrange(1, 200)), Expected({"crashed", "failed"})
            case "silent":
                return ask(ODD, "silent"), Expected({"crashed", "failed"})
            case _:
                return ask("localhost/no-such-image:1", "exit", code=0), Expected({"non-existing Docker image"})


@pytest.fixture
def scene(kubernetes_node, proxy: FaultProxy, gate: FaultProxy, cluster, researcher, world) -> Scene:
    """As in the matrix; and images that can't be had are given up soon."""
    settings = {"kubeconfig": str(gate.kubeconfig), "data_port": {"address": cluster.host_address()}, "image_pull_timeout": "20s"}
    node = kubernetes_node(via=proxy, kubernetes=settings).start_online()
    return Scene(node, proxy, gate, cluster, researcher, world.organization())


def test_soak(scene: Scene, world):
    """Nothing lost, nothing doubled, nothing hangs."""
    print(f"\nSEXTANT_SOAK_SEED={SEED}, {SECONDS:g} s")
    chance = random.Random(SEED)
    researching = Researching(scene, random.Random(chance.random()))
    researching.start()
    struck: dict[str, int] = {}
    # Tasks of which the cluster took a pod away.
    disrupted: set[int] = set()
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        time.sleep(chance.uniform(0.5, 6))
        with contextlib.ExitStack() as faults:
            # Sometimes two at once, unless both are about the node's process.
            for name in pick(chance):
                faults.enter_context(FAULTS[name](scene, world.server))
                struck[name] = struck.get(name, 0) + 1
            if chance.random() < 0.3:
                name = chance.choice(list(DISRUPTIONS))
                if task := disrupt(scene.cluster, name, chance):
                    disrupted.add(task)
                    struck[name] = struck.get(name, 0) + 1
            time.sleep(chance.uniform(0.2, 5))
        assert scene.node.running, "the node has ended by itself"
        assert researching.problem is None, researching.problem
    researching.enough.set()
    researching.join(60)
    tasks = researching.tasks

    def unfinished() -> list[dict]:
        runs = [scene.researcher.run(task) for task in tasks]
        return [{key: run[key] for key in ("id", "status", "log")} for run in runs if not run["finished_at"]]

    until("all runs to end", lambda: not unfinished(), PATIENCE, every=1, shows=lambda: f"{unfinished()}\n{scene.node.log()}")
    print(f"{len(tasks)} tasks, {sum(each.killed for each in tasks.values())} of them killed; faults: {struck}")

    wrong = {}
    with world.server.database() as database:
        for task, expected in tasks.items():
            ((run, status),) = database.execute("SELECT id, status FROM run WHERE task_id = ?", [task]).fetchall()
            allowed = expected.statuses | ({"killed by user"} if expected.killed else set()) | ({"crashed"} if task in disrupted else set())
            executions = scene.researcher.result(task) if expected.counts and status == "completed" else [None]
            # A run that was killed may have been reported by the server itself; but nobody reports it twice.
            reported = scene.reported_once(run) or (expected.killed and scene.reports_taken(run) == 0)
            if status not in allowed & FINISHED or len(executions) != 1 or not reported:
                wrong[task] = (run, status, expected, reported, executions)
    assert not wrong, wrong
    assert tasks, "nothing was asked for"


def evicted(cluster: Cluster, pod: str) -> None:
    """Its machine is drained."""
    body = client.V1Eviction(metadata=client.V1ObjectMeta(name=pod, namespace=cluster.jobs_namespace))
    cluster.core.create_namespaced_pod_eviction(pod, cluster.jobs_namespace, body)


def deleted(cluster: Cluster, pod: str) -> None:
    """A person removes it."""
    cluster.core.delete_namespaced_pod(pod, cluster.jobs_namespace)


# Nothing of a disrupted run is executed again once its algorithm has started: `retry_disrupted` is 0.
DISRUPTIONS = {"evicted": evicted, "deleted": deleted}


def disrupt(cluster: Cluster, name: str, chance: random.Random) -> int | None:
    """Takes a pod away that is under way, if there is one; the task whose it was."""
    under_way = [
        pod
        for pod in cluster.pods()
        if "vantage6.ai/task" in pod.metadata.labels
        and pod.status.phase in ("Pending", "Running")
        and not pod.metadata.deletion_timestamp
    ]
    if not under_way:
        return None
    pod = chance.choice(under_way)
    # It may just have gone by itself.
    with contextlib.suppress(ApiException):
        DISRUPTIONS[name](cluster, pod.metadata.name)
    return int(pod.metadata.labels["vantage6.ai/task"])


def pick(chance: random.Random) -> list[str]:
    """One fault, or two that do not touch each other."""
    of_process = {"killed", "terminated", "frozen"}
    first = chance.choice(list(FAULTS))
    if chance.random() < 0.75:
        return [first]
    first_kind = first.split("_")[0]
    others = [name for name in FAULTS if name.split("_")[0] != first_kind and not ({name, first} <= of_process)]
    second = chance.choice(others)
    # The node's process comes back when everything else is well again, or it would not become online.
    return sorted([first, second], key=lambda name: name not in of_process)
