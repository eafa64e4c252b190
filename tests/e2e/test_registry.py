"""Images from a real registry: by tag, by digest, with a login and without."""

import base64
import json
import os

import pytest

from harness.registry import Registries

pytestmark = [pytest.mark.cluster, pytest.mark.needs("registry")]


@pytest.fixture(scope="module")
def registries(cluster):
    """The test bed's own cluster alone knows these registries."""
    if os.environ.get("SEXTANT_E2E_FOREIGN_CLUSTER"):
        pytest.skip("the registries belong to the test bed's own cluster, and KUBECONFIG names another")
    made = Registries()
    yield made
    made.down()


def asked(researcher, world, image: str) -> dict:
    """What becomes of a run of this image."""
    task = researcher.ask(image, "exit", [world.organization()], code=0)
    (run,) = researcher.finished(task)
    return run


@pytest.mark.parametrize("by", ["tag", "digest"])
def test_a_pull(by, registries, kubernetes_node, researcher, world):
    """An image that this machine has never seen, named by tag or by digest."""
    kubernetes_node().start_online()
    tag, digest = registries.push(registries.open)
    run = asked(researcher, world, tag if by == "tag" else digest)
    assert run["status"] == "completed", run["log"]


def test_a_tag_that_is_not_there(registries, kubernetes_node, researcher, world):
    """The registry says that it doesn't have it: no time-out is needed to know."""
    kubernetes_node(kubernetes={"image_pull_timeout": "20s"}).start_online()
    tag, _ = registries.push(registries.open)
    missing = tag.replace(":1", ":2")
    run = asked(researcher, world, missing)
    assert run["status"] == "non-existing Docker image"
    assert missing in run["log"]


def test_a_login_is_needed(registries, kubernetes_node, researcher, world):
    """Without the login the run ends with the regular node's status, and a log that speaks of the registry's refusal."""
    kubernetes_node(kubernetes={"image_pull_timeout": "10s"}).start_online()
    tag, _ = registries.push(registries.closed)
    run = asked(researcher, world, tag)
    assert run["status"] == "non-existing Docker image"
    assert f"'{tag}' can't be run: the registry does not let this node have it." in run["log"]


def test_a_pull_secret(registries, kubernetes_node, researcher, world, cluster):
    """With a Secret named in the configuration the image is pulled."""
    login = base64.b64encode(f"{registries.user}:{registries.password}".encode()).decode()
    content = {"auths": {registries.closed: {"auth": login}}}
    cluster.create(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "type": "kubernetes.io/dockerconfigjson",
            "metadata": {"name": "registry-login", "namespace": cluster.jobs_namespace},
            "stringData": {".dockerconfigjson": json.dumps(content)},
        }
    )
    kubernetes_node(kubernetes={"image_pull_secrets": ["registry-login"]}).start_online()
    tag, _ = registries.push(registries.closed)
    run = asked(researcher, world, tag)
    assert run["status"] == "completed", run["log"]


def test_a_login_in_the_configuration(registries, kubernetes_node, researcher, world):
    """`docker_registries` of a regular node's configuration is enough: the node makes the Secret itself."""
    login = {"registry": registries.closed, "username": registries.user, "password": registries.password}
    kubernetes_node(docker_registries=[login]).start_online()
    tag, _ = registries.push(registries.closed)
    run = asked(researcher, world, tag)
    assert run["status"] == "completed", run["log"]
