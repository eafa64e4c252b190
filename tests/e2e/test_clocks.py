"""A server whose clock is wrong: tokens that end before they begin, as seen from here, or begin only in hours."""

from pathlib import Path

import pytest
from v6server import Provision, Server

from harness import average, nodes
from harness.lacking import lacking
from harness.node import NodeProcess
from harness.world import World

pytestmark = pytest.mark.cluster


@pytest.fixture(params=["-8h", "+8h"])
def other_time(request, directory):
    """A server that lives by another clock. Its tokens are good for six hours."""
    # Debian's package libfaketime; the prerequisites of the test bed have it.
    library = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
    if library is None:
        lacking("no libfaketime on this machine: apt-get install libfaketime")
    clock = {"LD_PRELOAD": str(library), "FAKETIME": request.param, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    with Server.start(directory / f"clock{request.param}", environment=clock) as server:
        yield World(server, Provision.create(server, organizations=1))


def test_central_average(other_time, cluster, started, tmp_path):
    """The node and its proxy count from when they got a token, not from what is written in it: it is not asked for over and over."""
    node = NodeProcess(tmp_path / "node", nodes.kubernetes(other_time, cluster, 0, tmp_path))
    started.append(node)
    node.start_online()
    researcher = other_time.researcher
    organizations = [other_time.organization()]
    task = researcher.ask(
        nodes.AVERAGE, "central_average", organizations, databases=["default"], column_name="salary", org_ids=organizations
    )
    expected = average.overall([average.partial(average.employee_files()[0], "salary")])
    assert researcher.result(task) == {"average": pytest.approx(expected)}
    asked = other_time.server.log_tail(10_000)
    assert asked.count("POST /api/token/node") == 1
    assert "POST /api/token/refresh" not in asked
