"""One collaboration of two Sextant nodes and a regular node 4.5.5: neither the researcher nor the other node sees which is which."""

import contextlib

import pytest

from harness import average, regular
from harness.lacking import lacking
from harness.nodes import AVERAGE, LONG, ODD
from harness.wait import until
from harness.world import own_world

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

COLUMN = "salary"
# The organization whose node is the regular one.
REGULAR = 2


@contextlib.contextmanager
def or_lacking():
    """Where there can be no regular node, these tests are skipped."""
    try:
        yield
    except regular.Unavailable as why:
        lacking(str(why))


@pytest.fixture(scope="module")
def docker(directory):
    """A Docker daemon that has the average algorithm."""
    place = directory / "docker"
    place.mkdir()
    with or_lacking(), regular.docker(place) as made:
        made.load("v6-average")
        yield made


@pytest.fixture(scope="module", params=["unencrypted", "encrypted"])
def world(request, directory):
    """A server with a collaboration of three organizations."""
    with own_world(directory, "mixed", request.param == "encrypted") as made:
        yield made


@pytest.fixture
def mixed(docker, world, kubernetes_node, tmp_path):
    """All three nodes, online; the regular one."""
    for organization in range(REGULAR):
        kubernetes_node(organization).start_online()
    node = regular.Regular(docker, world, REGULAR, tmp_path)
    try:
        node.start()
        with or_lacking():
            node.until_online(world, REGULAR)
        yield node
    finally:
        node.stop()


def test_average(mixed, world):
    """The partial average of all, and the central one, once led by a Sextant node and once by the regular one, each with subtasks at all
    three."""
    files = average.employee_files()[:3]
    partials = [average.partial(file, COLUMN) for file in files]
    researcher = world.user(0)
    asked = {"databases": ["default"], "column_name": COLUMN}
    task = researcher.ask(AVERAGE, "partial_average", world.organizations, **asked)
    assert researcher.results(task, within=120) == [pytest.approx(each) for each in partials]
    for leader in (0, REGULAR):
        task = researcher.ask(
            AVERAGE, "central_average", [world.organization(leader)], org_ids=world.organizations, **asked
        )
        result = researcher.result(task, within=180)
        assert result == {"average": pytest.approx(average.overall(partials))}, mixed.log()


def test_ends(mixed, world):
    """An algorithm that fails, and one that is killed: the researcher reads the same statuses from both kinds."""
    researcher = world.user(0)
    failing = researcher.finished(researcher.ask(ODD, "exit", world.organizations, code=3))
    assert [run["status"] for run in failing] == ["crashed"] * 3
    task = researcher.ask(ODD, "sleep", world.organizations, seconds=LONG)
    until(
        "all three to sleep",
        lambda: [run["status"] for run in researcher.runs(task)] == ["active"] * 3,
        shows=lambda: (researcher.runs(task), mixed.log()),
    )
    researcher.client.task.kill(task)
    killed = researcher.finished(task)
    assert [run["status"] for run in killed] == ["killed by user"] * 3
    for run in failing + killed:
        assert run["started_at"] and run["finished_at"]
    # (Of one that is killed, a regular node tells no log.)
    assert all(isinstance(run["log"], str) for run in failing)
