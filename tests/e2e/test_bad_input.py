"""What researchers get wrong: each ends in the right status, with a log that says what to do, and the node goes on serving."""

import pytest

from harness.nodes import AVERAGE, ODD


@pytest.fixture
def node(kubernetes_node):
    """One node, online; it gives up on an image that can't be pulled after some seconds rather than minutes."""
    return kubernetes_node(kubernetes={"image_pull_timeout": "5s"}).start_online()


@pytest.fixture
def serves_on(node, researcher, world):
    """After the test: the same process still answers a good question."""
    yield
    task = researcher.ask(ODD, "exit", [world.organization()], code=0)
    assert researcher.result(task) == "about to exit"
    assert node.running


pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("serves_on")]


def test_unknown_database_label(researcher, world, cluster):
    """The log names the label that was asked for; nothing was started."""
    task = researcher.ask(
        AVERAGE, "partial_average", [world.organization()], databases=["martians"], column_name="salary"
    )
    (run,) = researcher.finished(task)
    assert run["status"] == "failed"
    assert "martians" in run["log"]
    assert not cluster.jobs(run["id"])


def test_image_that_nobody_has(researcher, world):
    """The status is the regular node's, the log names the image."""
    task = researcher.ask("nowhere.invalid/no/such-image:1", "whoami", [world.organization()])
    (run,) = researcher.finished(task)
    assert run["status"] == "non-existing Docker image"
    assert "nowhere.invalid/no/such-image:1" in run["log"]


def test_image_whose_name_is_none(researcher, world):
    """A name that no image can have is found out at once."""
    task = researcher.ask("NOT/An Image", "whoami", [world.organization()])
    (run,) = researcher.finished(task, within=30)
    assert run["status"] == "non-existing Docker image"
    assert "NOT/An Image" in run["log"]


@pytest.mark.parametrize("length", [1_000, 300_000, 1_400_000])
def test_image_whose_name_is_too_long(node, researcher, world, cluster, length):
    """Nothing is made of it: a kubelet could not write down the state of such a pod, and never let it go."""
    task = researcher.ask("localhost/" + "y" * length + ":1", "whoami", [world.organization()])
    (run,) = researcher.finished(task, within=30)
    assert run["status"] == "non-existing Docker image"
    assert "that is not a valid name" in run["log"] and len(run["log"]) < 1_000
    assert len(node.log()) < 20_000
    assert not cluster.jobs(run["id"]) and not cluster.pods(run["id"])


def test_image_whose_name_steers_a_terminal(researcher, world):
    """Whoever prints the log sees what is in it, and nothing happens."""
    task = researcher.ask("localhost/a b\n\x1b[31m\u202e:1", "whoami", [world.organization()])
    (run,) = researcher.finished(task, within=30)
    assert run["status"] == "non-existing Docker image"
    assert r"'localhost/a b\n\u{1b}[31m\u{202e}:1'" in run["log"]


def test_database_parameters_that_are_too_large(researcher, world, cluster):
    """No program can be started with a variable of such a length: it is told before anything is made, and as what it is."""
    asked = [{"label": "default", "query": "q" * 300_000}]
    task = researcher.ask(ODD, "exit", [world.organization()], databases=asked, code=0)
    (run,) = researcher.finished(task, within=30)
    assert run["status"] == "start failed"
    assert "too large" in run["log"] and len(run["log"]) < 1_000
    assert not cluster.jobs(run["id"])


def test_input_that_is_no_base64(researcher, world, cluster):
    """An input that can't be decoded ends the run before the algorithm starts."""
    task = researcher.ask_raw(ODD, "%%%%", [world.organization()])
    (run,) = researcher.finished(task)
    assert run["status"] == "start failed"
    assert "base64" in run["log"]
    status = cluster.container(run["id"], "algorithm")
    assert status is None or (status.state.running is None and status.state.terminated is None)


def test_input_that_the_algorithm_does_not_understand(researcher, world):
    """Valid base64 of something else is the algorithm's to judge: its complaint is in the log."""
    task = researcher.ask_raw(ODD, "bm90IEpTT04=", [world.organization()])
    (run,) = researcher.finished(task)
    assert run["status"] == "crashed"
    assert "is not JSON" in run["log"]


def test_algorithm_without_output(researcher, world):
    """It ended well but wrote nothing: the researcher gets no empty result as if it were an answer."""
    task = researcher.ask(ODD, "silent", [world.organization()])
    (run,) = researcher.finished(task)
    assert run["status"] == "failed"
    assert "output" in run["log"]


def test_algorithm_that_exits_3(researcher, world):
    """The exit code is in the log, beside what the algorithm printed."""
    task = researcher.ask(ODD, "exit", [world.organization()], code=3)
    (run,) = researcher.finished(task)
    assert run["status"] == "crashed"
    assert "odd: exit" in run["log"]
    assert "exit code 3" in run["log"]


def test_algorithm_that_raises(researcher, world):
    """A Python traceback reaches the researcher."""
    task = researcher.ask(AVERAGE, "fail", [world.organization()], message="no such patient")
    (run,) = researcher.finished(task)
    assert run["status"] == "crashed"
    assert "no such patient" in run["log"]


def test_database_parameters_that_are_no_json(node, researcher, world, cluster):
    """The server's API makes JSON of them; whatever else is in its database, the log names it, and nothing was started."""
    node.terminate()
    task = researcher.ask(ODD, "exit", [world.organization()], databases=["default"], code=0)
    with world.server.database() as database:
        database.execute("UPDATE taskdatabase SET parameters = '[1' WHERE task_id = ?", [task])
    node.start_online()
    (run,) = researcher.finished(task)
    assert run["status"] == "failed"
    assert "'default'" in run["log"] and "JSON" in run["log"]
    assert not cluster.jobs(run["id"])
