"""The Helm chart as people use it: with helm, which the test bed builds from source."""

import functools
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import yaml

from .paths import REPOSITORY, cache

CHART = REPOSITORY / "charts" / "sextant"
BUILT = cache() / "built"
SCHEMAS = BUILT / "charts" / "schemas"


class ChartError(Exception):
    """helm did not take the chart or its values; the text is what it said."""


@functools.cache
def tool(name: str) -> str:
    """helm or kubeconform: the one built here, else the one on PATH."""
    part = {"helm": "helm", "kubeconform": "charts"}[name]
    if shutil.which("go"):
        subprocess.run([REPOSITORY / "testbed" / "build", part], check=True)
        return str(BUILT / part / name)
    found = shutil.which(name)
    if not found:
        raise FileNotFoundError(f"there is no {name}: neither Go, to build it, nor {name} is on PATH")
    return found


def helm(*arguments: str, values: dict | None = None, kubeconfig: Path | None = None) -> str:
    """Runs helm, with these values in a file; what it printed."""
    with tempfile.TemporaryDirectory(prefix="sextant-helm-") as home:
        environment = os.environ | {f"HELM_{each}_HOME": home for each in ("CACHE", "CONFIG", "DATA")}
        # Without a cluster in the environment, nothing that only renders can ask one.
        environment.pop("KUBECONFIG", None)
        command = [tool("helm"), *arguments]
        if kubeconfig:
            command += ["--kubeconfig", str(kubeconfig)]
        if values is not None:
            file = Path(home) / "values.yaml"
            file.write_text(yaml.safe_dump(values))
            command += ["--values", str(file)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise ChartError(done.stdout + done.stderr)
    return done.stdout


def rendered(release: str, namespace: str, values: dict) -> list[dict]:
    """What the chart makes of these values."""
    text = helm("template", release, str(CHART), "--namespace", namespace, values=values)
    return [each for each in yaml.safe_load_all(text) if each]


def rules() -> list[dict]:
    """What the chart's Role allows; the values change nothing of it, so it takes no helm."""
    _, _, found = (CHART / "templates" / "rbac.yaml").read_text().partition("\nrules:\n")
    return yaml.safe_load(found.partition("\n---\n")[0])


def one(manifests: list[dict], kind: str, name: str | None = None) -> dict:
    """The only manifest of a kind, or the one whose name ends so."""
    (found,) = [
        each for each in manifests if each["kind"] == kind and (not name or each["metadata"]["name"].endswith(name))
    ]
    return found
