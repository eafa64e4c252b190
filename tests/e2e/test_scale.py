"""Many runs on many machines, which KWOK plays on the real API server. `make scale` is the same with 10,000 runs on 1,000 machines."""

import os
import time
from dataclasses import dataclass

import pytest

from harness.cluster import Cluster
from harness.machines import Machines
from harness.memory import Sampled
from harness.node import NodeProcess
from harness.paths import cache
from harness.scale import RealServer, bring_through, configuration
from harness.standin import StandIn
from harness.wait import until

pytestmark = [pytest.mark.cluster, pytest.mark.needs("kwok")]


@dataclass(frozen=True)
class Size:
    """How many runs, so many at once, on how many machines, in how many seconds at the most."""

    runs: int
    at_once: int
    machines: int
    within: int


SIZE = Size(10_000, 500, 1_000, 7_200) if os.environ.get("SEXTANT_SCALE") == "whole" else Size(200, 50, 50, 180)


@pytest.fixture
def own_place(cluster: Cluster):
    """Namespaces for one of these tests alone."""
    if cluster.kubeconfig != cache() / "cluster" / "admin.conf":
        pytest.skip("fake machines are for the cluster that is built here: they use its certificates and its audit log")
    made = cluster.sibling("-many")
    made.set_up()
    yield made
    made.tear_down()


def test_many_runs_on_many_machines(own_place, tmp_path, capsys):
    """Each run is executed once and reported once, with four requests to the API server, in memory that does not grow."""

    def say(text: object) -> None:
        with capsys.disabled():
            print(f"\n{text}", end="")

    with RealServer(tmp_path / "server", SIZE.runs) as server:
        outcome = bring_through(own_place, server, SIZE.machines, SIZE.at_once, tmp_path, SIZE.within, say)
    say(outcome)
    outcome.assert_good()
    assert outcome.played["most"] <= SIZE.at_once


def test_ten_thousand_open_runs_at_the_first_look(own_place, tmp_path, capsys):
    """A node that comes back to ten thousand open runs: it begins before it has read them all, reads each page once, and doesn't
    hold all that it reads."""
    with StandIn(runs=10_000, input_bytes=1024, large=5, seconds_per_run=0.001) as server:
        node = NodeProcess(tmp_path / "node", configuration(own_place, server.config(), tmp_path, at_once=20))
        with Machines(own_place, 10, tmp_path / "machines"):
            began = time.monotonic()
            node.start()
            try:
                with Sampled(node) as memory:
                    until("the list to be read to its end", lambda: server.lists, within=90, shows=lambda: (server.pages, node.log()[-3000:]))
                    listed = time.monotonic() - began
                    until("forty runs to finish", lambda: server.finished() >= 40, within=90, shows=lambda: node.log()[-3000:])
            finally:
                node.stop()
        first = server.first_change - began
        with capsys.disabled():
            print(
                f"\n10,000 open runs: {sum(server.pages.values())} pages in {listed:.1f} s, first run begun after {first:.1f} s, "
                f"at most {max(memory.megabytes):.1f} MB"
            )
        assert first < min(15, listed)
        assert max(server.pages.values()) == 1 and sum(server.pages.values()) < 200, server.pages
        # Some 4 KB for each run that waits, besides what the node takes anyway.
        assert max(memory.megabytes) < 80
        assert max(server.finals.values()) == 1
