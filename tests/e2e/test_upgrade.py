"""From one version to the next with runs under way. The earlier one is that of `eval "$(tests/e2e/previous COMMIT)"`; without it, this
version itself: then pods and process are started anew as in an upgrade, and nothing has changed between the two. The earlier version must be one whose
pods say which Job they belong to (`x-sextant-job`): those of older ones are not served any more, and must have ended before the upgrade."""

import os
from pathlib import Path

import pytest

from faultproxy import has
from harness.node import free_port
from harness.nodes import LONG, ODD, SEXTANT, merged
from harness.paths import binary

pytestmark = pytest.mark.cluster

PREVIOUS = Path(os.environ.get("SEXTANT_PREVIOUS_BINARY") or binary())
PREVIOUS_IMAGE = "localhost/sextant-previous:dev" if "SEXTANT_PREVIOUS_BINARY" in os.environ else SEXTANT
# Settings that a version without isolation and health port does not accept.
UNKNOWN_ONCE = {"kubernetes": {"allow_unisolated": None, "proxy": None}, "health": None}


def test_runs_under_way(kubernetes_node, proxy, researcher, world, cluster):
    """One run whose algorithm runs, one whose output waits: the next version brings both to their end, from pods of the earlier one."""
    listen = {"data_port": {"listen": f"0.0.0.0:{free_port()}"}}
    new = kubernetes_node(via=proxy, kubernetes=listen)
    old = kubernetes_node(via=proxy, kubernetes=listen | {"image": PREVIOUS_IMAGE})
    old.program = PREVIOUS
    if old.tool("check").returncode != 0:
        old.config = merged(old.config, UNKNOWN_ONCE)
        old.write_config()
    old.start_online()
    tasks = [researcher.ask(ODD, "count", [world.organization()], seconds=LONG) for _ in range(2)]
    runs = [researcher.run(task)["id"] for task in tasks]
    for run in runs:
        cluster.until_container(run, "algorithm", "running")
    old.terminate()
    cluster.release(runs[0])
    cluster.until_container(runs[0], "algorithm", "terminated")
    assert cluster.container(runs[1], "algorithm").state.running

    new.start_online()
    cluster.release(runs[1])
    for task, run in zip(tasks, runs, strict=True):
        assert len(researcher.result(task)) == 1
        assert len(proxy.seen("PATCH", f"/run/{run}$", where=has("finished_at"))) == 1
        cluster.until_job_complete(run)
    # And what is new is the next version's.
    assert len(researcher.result(researcher.ask(ODD, "count", [world.organization()], seconds=0))) == 1
