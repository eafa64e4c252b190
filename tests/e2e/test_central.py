"""A central function over three organizations, each with the chart in namespaces of its own, behind enforced policies: the whole of
Sextant, in an unencrypted and in an encrypted collaboration."""

import pytest

from harness import average
from harness.nodes import AVERAGE, AVERAGE_4_15
from harness.world import own_world

pytestmark = [pytest.mark.cluster, pytest.mark.needs("helm"), pytest.mark.timeout(600)]

COLUMN = "salary"


@pytest.fixture(scope="module", params=["unencrypted", "encrypted"])
def world(request, directory):
    """A server with a collaboration of three organizations."""
    with own_world(directory, "central", request.param == "encrypted") as made:
        yield made


@pytest.fixture
def installed(release):
    """Three releases, all ready: the isolation of each is confirmed."""
    nodes = [release(organization) for organization in range(3)]
    for node in nodes:
        node.until_ready()
    return nodes


def test_central_average(installed, world):
    """The algorithm of the first organization asks all three through its proxy, and divides: with the algorithm tools of the first and
    of the last 4.x."""
    for image in (AVERAGE, AVERAGE_4_15):
        central_average(image, installed, world)


def central_average(image: str, installed, world) -> None:
    """One question; the subtask's runs are Jobs in three namespaces."""
    researcher = world.user(0)
    task = researcher.ask(
        image,
        "central_average",
        [world.organization()],
        databases=["default"],
        column_name=COLUMN,
        org_ids=world.organizations,
    )
    expected = average.overall([average.partial(file, COLUMN) for file in average.employee_files()[:3]])
    assert researcher.result(task, within=180) == {"average": pytest.approx(expected)}
    tasks = world.server.request("GET", "/task?per_page=100")["data"]
    (subtask,) = [each["id"] for each in tasks if (each["parent"] or {}).get("id") == task]
    parts = researcher.runs(subtask)
    assert sorted(run["organization"]["id"] for run in parts) == sorted(world.organizations)
    for run in parts:
        node = installed[world.organizations.index(run["organization"]["id"])]
        assert node.cluster.jobs(run["id"])
