"""The reason for everything: a researcher asks for an average with the official client, and gets the right number."""

import pytest

from harness import average
from harness.nodes import AVERAGE

pytestmark = [pytest.mark.cluster, pytest.mark.versions]


def test_partial_average_of_one_organization(kubernetes_node, researcher, world):
    """The node on this machine, the algorithm as a Job: the sum and count are those of the file."""
    kubernetes_node().start_online()
    task = researcher.ask(
        AVERAGE, "partial_average", [world.organization()], databases=["default"], column_name="salary"
    )
    assert researcher.result(task) == pytest.approx(average.partial(average.employee_files()[0], "salary"))


def test_central_average_of_three_organizations(kubernetes_node, researcher, world):
    """One question: the algorithm asks the three organizations through the proxy, which each of these nodes is itself."""
    for organization in range(3):
        kubernetes_node(organization).start()
    for organization in range(3):
        researcher.until_node(world.node(organization), "online")
    task = researcher.ask(
        AVERAGE, "central_average", [world.organization(1)], databases=["default"], column_name="salary"
    )
    expected = average.overall([average.partial(file, "salary") for file in average.employee_files()[:3]])
    assert researcher.result(task)["average"] == pytest.approx(expected)


def test_partial_averages_of_three_organizations(kubernetes_node, researcher, world):
    """Three nodes of three organizations: one task, a part from each, and together the average over all of them."""
    for organization in range(3):
        kubernetes_node(organization).start()
    for organization in range(3):
        researcher.until_node(world.node(organization), "online")

    task = researcher.ask(AVERAGE, "partial_average", world.organizations, databases=["default"], column_name="salary")
    parts = researcher.results(task)

    expected = [average.partial(file, "salary") for file in average.employee_files()[:3]]
    assert parts == [pytest.approx(part) for part in expected]
    assert average.overall(parts) == pytest.approx(average.overall(expected))
