"""A release, installed as a site without internet access does it: from the bundle alone, by the commands of its INSTALL.md."""

import os
import subprocess
import tarfile

import pytest

from harness import average
from harness.chart import tool
from harness.nodes import AVERAGE
from harness.paths import REPOSITORY, binary
from harness.release import Release

# The image is brought to the machines as it is without a registry, and the only machine is this one.
pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        os.geteuid() != 0 or "SEXTANT_E2E_FOREIGN_CLUSTER" in os.environ, reason="imports into the containerd of the cluster built here"
    ),
]
CTR = ("ctr", "--address", "/run/sextant/containerd.sock", "--namespace", "k8s.io", "images")
NAME = "localhost/sextant-released"


def run(*command, folder=None) -> str:
    outcome = subprocess.run([str(each) for each in command], cwd=folder, capture_output=True, text=True)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    return outcome.stdout


@pytest.fixture
def unpacked(tmp_path):
    """The content of the bundle, and nothing else."""
    packing = REPOSITORY / "release"
    folder = run(packing / "pack", tmp_path / "dist", f"amd64={binary()}", "--helm", tool("helm")).strip()
    with tarfile.open(run(packing / "bundle", folder).strip()) as bundle:
        bundle.extractall(tmp_path)
    (made,) = tmp_path.glob("sextant-*")
    return made


@pytest.fixture
def image(unpacked):
    """The image, imported on the cluster's machine."""
    (archive,) = unpacked.glob("*-image.tar")
    run(*CTR, "import", "--base-name", NAME, "--digests", archive)
    yield
    names = [name for name in run(*CTR, "list", "--quiet").split() if name.startswith(NAME)]
    run(*CTR, "remove", *names)


def test_from_the_bundle(unpacked, image, cluster, world, researcher):
    """Checksums are right, the machine has the image under the digest that the chart names, and a run works with it."""
    run("sha256sum", "--check", "SHA256SUMS", folder=unpacked)
    (chart,) = unpacked.glob("*.tgz")
    node = Release(cluster, world, 0, image={"repository": NAME, "tag": "", "pullPolicy": "Never"})
    node.chart = chart
    try:
        node.install().until_ready()
        task = researcher.ask(AVERAGE, "partial_average", [world.organization()], databases=["default"], column_name="salary")
        assert researcher.result(task, within=120) == pytest.approx(average.partial(average.employee_files()[0], "salary"))
        (pod,) = node.cluster.pods(researcher.run(task)["id"])
        of_ours = {each.image for each in [*pod.spec.init_containers, *pod.spec.containers] if each.name != "algorithm"}
        (name,) = of_ours | {each.spec.containers[0].image for role in ("node", "proxy") for each in node.pods(role)}
        assert name.startswith(f"{NAME}@sha256:")
    finally:
        node.remove()
