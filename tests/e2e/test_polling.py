"""A server without a websocket library, as many installations of 4.5.5 are: long polling is all there is."""

import pytest
from v6server import Provision, Server

from harness import average, nodes
from harness.node import NodeProcess
from harness.world import World


@pytest.fixture
def polling_world(directory):
    with Server.start(directory / "polling", polling_only=True) as server:
        yield World(server, Provision.create(server, organizations=1))


def test_partial_average_by_long_polling(polling_world, tmp_path, started):
    """The node hears of the task at once all the same: well before its periodic look."""
    node = NodeProcess(tmp_path / "node", nodes.local(polling_world, 0, tmp_path))
    started.append(node)
    node.start_online()
    researcher = polling_world.researcher
    task = researcher.ask(
        nodes.AVERAGE, "partial_average", [polling_world.organization()], databases=["default"], column_name="salary"
    )
    assert researcher.result(task, within=20) == pytest.approx(average.partial(average.employee_files()[0], "salary"))
