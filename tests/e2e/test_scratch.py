"""What algorithms can write: past the limit of ephemeral storage in each of these ways, but not past the end of a volume of their own."""

import contextlib
import os
from collections.abc import Iterator

import pytest

from harness.images import variant
from harness.paths import cache
from harness.rooms import Rooms
from harness.wait import until

pytestmark = [pytest.mark.cluster, pytest.mark.needs("helm"), pytest.mark.timeout(300)]

# An image that declares a folder of its own, besides those that every image has.
VOLUME = {"Entrypoint": ["/odd"], "Volumes": {"/fill": {}}}
MUCH = 60_000_000
# Ways by which files count for nothing; the last is where a container may leave a message at its end.
FILES = ("long", "unlinked", "at:/fill", "at:/dev/termination-log")
FULL = "no space left on device"


@pytest.fixture
def rooms(cluster, directory, tmp_path) -> Iterator[Rooms]:
    """Volumes with an end; none yet."""
    if cluster.kubeconfig != cache() / "cluster" / "admin.conf" or os.geteuid() != 0:
        pytest.skip("volumes can be made by hand only by root on the cluster's own machine")
    made = Rooms(cluster, tmp_path)
    yield made
    cluster.forget_jobs()
    made.remove()


def test_ways_past_the_limit_of_ephemeral_storage(kubernetes_node, researcher, world, images):
    """Algorithms that may write 10 MiB hold 60 MB, or twenty thousand files, for a time in which one that is measured is evicted
    (`test_states.py::test_too_much_disk`). So this limit is one against accidents. If this test fails, the kubelet or the container runtime has
    learned to count: then docs/SECURITY.md says too little for it."""
    limits = {"limits": {"ephemeral-storage": "10Mi"}, "requests": {"ephemeral-storage": "1Mi"}}
    kubernetes_node(kubernetes={"resources": limits, "output_limit": "1Mi"}).start_online()
    image = variant(images, VOLUME)

    def ask(way: str) -> int:
        return researcher.ask(image, "fill", [world.organization()], ways=way, bytes=MUCH, seconds=40)

    tasks = {way: ask(way) for way in (*FILES, "inodes")}
    ends = {way: researcher.result(task, within=120)[way] for way, task in tasks.items()}
    for way in FILES:
        assert ends[way]["bytes"] >= MUCH and "error" not in ends[way], ends
    assert ends["inodes"] == {"files": 20000}


@pytest.mark.parametrize("level", ["baseline", "restricted"])
def test_a_volume_ends_every_way(level, release, rooms, researcher, world, images):
    """With `kubernetes.scratch`, in the chart's release with all its rules: whatever an algorithm does, it is told that there is no more
    room, or that it may not write there; and what it did write is gone with its pod. (A VOLUME of the image is outside of it.)"""
    rooms.add(mebibytes=16, inodes=400)
    scratch = {"size": "16Mi", "storage_class": rooms.name}
    node = release(config={"kubernetes": {"pod_security": level, "scratch": scratch}}).until_ready()
    inside = ["file", "long", "unlinked", "inodes", "at:/tmp", "at:/var/tmp", "at:/mnt/data"]
    outside = ["at:/", "at:/etc/hosts", "at:/dev/termination-log", "at:/run/sextant/closed/message", "at:/run/sextant/scratch", "at:/odd"]
    task = researcher.ask(variant(images), "fill", [world.organization()], databases=["default"], ways=",".join([*inside, *outside]), bytes=MUCH)
    ends = researcher.result(task, within=120)
    for way in inside:
        assert ends[way]["error"] == FULL and ends[way].get("bytes", 0) <= 16 << 20 and ends[way].get("files", 0) <= 400, (way, ends)
    assert {way: ends[way].get("bytes", 0) for way in outside} == dict.fromkeys(outside, 0), ends
    (pod,) = node.cluster.pods(researcher.run(task)["id"])
    claim = f"{pod.metadata.name}-scratch"
    core, namespace = node.cluster.core, node.cluster.jobs_namespace
    labels = core.read_namespaced_persistent_volume_claim(claim, namespace).metadata.labels
    assert labels["vantage6.ai/run"] == str(researcher.run(task)["id"])
    node.cluster.forget_jobs()
    until("the claim to go with its pod", lambda: not core.list_namespaced_persistent_volume_claim(namespace).items, within=30)


def test_a_run_without_room_fails_and_says_so(rooms, kubernetes_node, researcher, world, images):
    """Its output does not fit."""
    rooms.add(mebibytes=2, inodes=400)
    kubernetes_node(kubernetes={"scratch": {"size": "2Mi", "storage_class": rooms.name}}).start_online()
    task = researcher.ask(variant(images), "disk", [world.organization()], bytes=5e6, folder="/tmp")
    (run,) = researcher.finished(task, within=120)
    assert run["status"] == "crashed" and FULL in run["log"], run


def test_why_a_volume_is_not_made_is_told_in_seconds(rooms, kubernetes_node, researcher, world, cluster, images):
    """A class that isn't there, and a quota that is used up: the node's log says which, while the run waits."""
    for scratch, said in (
        ({"size": "1Gi", "storage_class": "no-such-class"}, r'storageclass.storage.k8s.io "no-such-class" not found'),
        ({"size": "1Gi", "storage_class": rooms.name}, "exceeded quota"),
    ):
        node = kubernetes_node(kubernetes={"scratch": scratch})
        quota = {"metadata": {"name": "claims"}, "spec": {"hard": {f"{rooms.name}.storageclass.storage.k8s.io/persistentvolumeclaims": "0"}}}
        cluster.core.create_namespaced_resource_quota(cluster.jobs_namespace, quota)
        try:
            node.start_online()
            task = researcher.ask(variant(images), "exit", [world.organization()], code=0)
            node.wait_log(said, within=45)
            assert researcher.run(task)["status"] in ("pending", "initializing")
            researcher.client.task.kill(task)
            researcher.finished(task, within=60)
        finally:
            node.stop()
            with contextlib.suppress(Exception):
                cluster.core.delete_namespaced_resource_quota("claims", cluster.jobs_namespace)
