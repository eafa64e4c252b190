"""What an algorithm sees: files and variables exactly as on a regular node, and rights as few as can be."""

import base64
import json
import os
import time

import pytest

from harness.deep import dug
from harness.nodes import AVERAGE, LONG, ODD

pytestmark = pytest.mark.cluster


@pytest.fixture
def seen(kubernetes_node, researcher, world, cluster):
    """An algorithm's own view of its place, and the pod it ran in."""
    node = kubernetes_node(algorithm_env={"COLOUR": "blue"}).start_online()
    task = researcher.ask(AVERAGE, "whoami", [world.organization()], databases=["default"])
    view = researcher.result(task)
    run = researcher.run(task)["id"]
    (pod,) = cluster.pods(run)
    # A node on a machine serves the proxy itself, at a port of its configuration. (In the cluster it is 8080.)
    port = node.config["kubernetes"]["proxy"]["listen"].rsplit(":", 1)[1]
    return {"view": view, "run": run, "task": task, "pod": pod, "proxy port": port}


@pytest.mark.versions
def test_files_variables_and_rights(seen, world):
    """One look at everything: it takes a pod only once."""
    view, run = seen["view"], seen["run"]
    environment = view["environment"]
    folder = f"/mnt/data/task-{run:09}"
    expected = {
        "INPUT_FILE": f"{folder}/input",
        "OUTPUT_FILE": f"{folder}/output",
        "TOKEN_FILE": f"{folder}/token",
        "TEMPORARY_FOLDER": "/mnt/tmp",
        "HOST": "http://proxyserver",
        "PORT": seen["proxy port"],
        "API_PATH": "",
        "USER_REQUESTED_DATABASE_LABELS": "default",
        "DB_LABELS": "default",
        "DEFAULT_DATABASE_TYPE": "csv",
        "COLOUR": "blue",
    }
    assert {name: environment.get(name) for name in expected} == expected
    assert environment["DEFAULT_DATABASE_URI"].startswith("/mnt/data/")
    # PKG_NAME belongs to the image.
    assert environment["PKG_NAME"] == "v6_average"
    for name in ("input", "output", "token"):
        assert f"task-{run:09}/{name}" in view["data"]

    # Root inside, as many images are, but without any of root's rights.
    assert view["uid"] == 0
    assert int(view["capabilities"], 16) == 0
    assert int(view["bounding"], 16) == 0
    assert view["no_new_privileges"] is True
    assert view["seccomp"] == 2
    assert view["service_account"] is False
    # No Service's address in the environment either, but the API server's own, which Kubernetes puts everywhere.
    services = {name for name in environment if name.endswith("_SERVICE_HOST")}
    assert services <= {"KUBERNETES_SERVICE_HOST"}


def test_variables_are_encoded_and_nothing_is_shown(seen, cluster):
    """In the container every value is base32 with ! for =, as the algorithm tools expect it; and who may look at pods sees none."""
    pod = seen["pod"]
    (algorithm,) = [each for each in pod.spec.containers if each.name == "algorithm"]
    # A database's address may hold a password: so values are in the run's Secret.
    assert not [each.name for each in algorithm.env if each.value]
    names = {each.value_from.secret_key_ref.name for each in algorithm.env}
    assert len(names) == 1
    secret = cluster.core.read_namespaced_secret(names.pop(), cluster.jobs_namespace)
    values = {
        each.name: base64.b64decode(secret.data[each.value_from.secret_key_ref.key]).decode() for each in algorithm.env
    }
    assert base64.b32decode(values["INPUT_FILE"].replace("!", "=")).decode() == f"/mnt/data/task-{seen['run']:09}/input"
    assert values["API_PATH"] == ""
    assert "=" not in "".join(values.values())

    # Neither the input nor the token for the server is anywhere in the Kubernetes API.
    everything = json.dumps([pod.to_dict(), *secret.data.values()], default=str)
    assert "whoami" not in everything
    assert "eyJ" not in everything
    assert pod.spec.automount_service_account_token is False


def test_runs_of_a_job_share_a_folder(kubernetes_node, researcher, world, cluster):
    """What one run writes to /mnt/tmp, a subtask of the same job finds; another job does not."""
    kubernetes_node().start_online()
    here = [world.organization()]
    parent = researcher.ask(ODD, "count", here, seconds=LONG)
    run = researcher.run(parent)["id"]
    cluster.until_container(run, "algorithm", "running")
    child = world.subtask(parent, ODD, "count", here)
    stranger = researcher.ask(ODD, "count", here)

    assert len(researcher.result(stranger)) == 1
    assert len(researcher.result(child)) == 2
    cluster.release(run)
    assert len(researcher.result(parent)) == 2


def test_a_later_job_of_the_same_number(kubernetes_node, researcher, world):
    """Servers give the number of a deleted job again: the later one does not find what the earlier one wrote to /mnt/tmp."""
    kubernetes_node().start_online()
    jobs = []
    for _ in range(2):
        task = researcher.ask(ODD, "count", [world.organization()])
        assert len(researcher.result(task)) == 1
        jobs.append(world.server.request("GET", f"/task/{task}")["job_id"])
        world.server.request("DELETE", f"/task/{task}")
    assert jobs[0] == jobs[1], "the number is used again"


def test_folders_of_old_jobs(kubernetes_node, researcher, world, tmp_path):
    """The folder that runs of a job shared goes when no run has used it for 30 days and others come, however deep it is and whatever
    times the algorithm has given it; nothing else goes, and no run fails meanwhile."""
    kubernetes_node().start_online()

    def ask(seconds: float = 0) -> None:
        researcher.result(researcher.ask(ODD, "count", [world.organization()], seconds=seconds))

    ask()
    (folder,) = (tmp_path / "tasks").glob("sextant-*")
    left, old, other = folder / "job-1000001", folder / "job-1000000", folder / "somebody's"
    for each, days in ((left, 29), (old, 31), (other, 31)):
        each.mkdir()
        (each / "file").touch()
        used = folder / f"{each.name}.used"
        used.touch()
        os.utime(used, (time.time() - days * 86400,) * 2)
    removing = folder / "removing"
    with dug(old, 25_000):
        # An algorithm may own the folder itself.
        os.utime(old, (2**33, 2**33))
        os.utime(left, (0, 0))
        for _ in range(40):
            ask(seconds=1)
            if not old.exists() and not list(removing.iterdir()):
                break
        assert not old.exists()
        assert not list(removing.iterdir())
    assert left.exists()
    assert other.exists()


def test_output_that_was_replaced(kubernetes_node, researcher, world):
    """Programs that write a new file beside the output and rename it, readable by themselves alone, work too."""
    kubernetes_node().start_online()
    assert researcher.result(researcher.ask(ODD, "replace_output", [world.organization()])) == "replaced"
