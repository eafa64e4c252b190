"""Fake machines on the real API server: KWOK says that they are there and that pods start on them; what pods of runs do with the
node is played by the test bed's `pods`. For tests of more than one real machine can run."""

import contextlib
import json
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from kubernetes.client.exceptions import ApiException

from .cluster import Cluster
from .node import free_port
from .paths import REPOSITORY, cache
from .wait import NotInTime, until

BUILT = cache() / "built" / "kwok"
LABEL = {"type": "kwok"}
TAINT = {"key": "kwok", "value": "fake", "effect": "NoSchedule"}
# What a node's configuration says under `kubernetes`, so that its runs go there.
PLACEMENT = {"node_selector": LABEL, "tolerations": [{"key": TAINT["key"], "operator": "Exists"}]}
LOG_LINE = "2026-01-01T00:00:00.000000000Z stdout F info > this algorithm has never run\n"


class Machines:
    """So many machines, for as long as the context lasts."""

    def __init__(self, cluster: Cluster, number: int, directory: Path):
        self.cluster = cluster
        self.names = [f"kwok-{cluster.tag}-{each}" for each in range(number)]
        self.directory = directory
        self._processes: list[subprocess.Popen] = []

    def __enter__(self) -> "Machines":
        subprocess.run([REPOSITORY / "testbed" / "build", "kwok"], check=True)
        self.directory.mkdir(parents=True, exist_ok=True)
        try:
            self._start_kwok()
            with ThreadPoolExecutor(8) as workers:
                list(workers.map(self._make, self.names))
            until("the machines to be ready", self._ready, within=30 + len(self.names) / 5, every=0.5, shows=self.log_tail)
            self._start("pods", "--kubeconfig", self.cluster.kubeconfig, "--namespace", self.cluster.jobs_namespace)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(ApiException, NotInTime):
            # A pod whose machine is gone would stay for a minute.
            self.cluster.forget_jobs()
        with contextlib.suppress(ApiException):
            self.cluster.core.delete_collection_node(label_selector=self._selector())
        for process in reversed(self._processes):
            process.terminate()
        for process in self._processes:
            process.wait(20)

    def figures(self) -> dict[str, int]:
        """What was played so far (testbed/kwok/tally.go)."""
        lines = (self.directory / "pods.out").read_text().splitlines()
        whole = [line for line in lines[-2:] if line.endswith("}")]
        return json.loads(whole[-1]) if whole else {}

    def log_tail(self) -> str:
        """The end of what KWOK and the played pods say."""
        tails = [(self.directory / f"{name}.log").read_text().splitlines()[-10:] for name in ("kwok", "pods") if (self.directory / f"{name}.log").exists()]
        return "\n".join(line for tail in tails for line in tail)

    def _start_kwok(self) -> None:
        log = self.directory / "algorithm.log"
        log.write_text(LOG_LINE)
        logs = self.directory / "logs.yaml"
        each = {"containers": ["algorithm"], "logsFile": str(log)}
        logs.write_text(
            json.dumps(
                {
                    "apiVersion": "kwok.x-k8s.io/v1alpha1",
                    "kind": "ClusterLogs",
                    "metadata": {"name": "algorithms"},
                    "spec": {"logs": [each]},
                }
            )
        )
        address, port = self.cluster.host_address(), free_port()
        pki = self.cluster.kubeconfig.parent / "pki"
        options = {
            "kubeconfig": self.cluster.kubeconfig,
            "node-ip": address,
            "node-port": port,
            "server-address": f"{address}:{port}",
            # The kubelet's, which the API server trusts.
            "tls-cert-file": pki / "kubelet.crt",
            "tls-private-key-file": pki / "kubelet.key",
        }
        configs = ["--v=WARN", "--config", REPOSITORY / "testbed" / "kwok" / "kwok.yaml", "--config", logs]
        self._start("kwok", *configs, *(f"--{name}={value}" for name, value in options.items()))

    def _start(self, name: str, *arguments: object) -> None:
        with (self.directory / f"{name}.log").open("wb") as log, (self.directory / f"{name}.out").open("wb") as out:
            self._processes.append(
                subprocess.Popen(
                    [BUILT / name, *map(str, arguments)],
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=log,
                    env={"PATH": os.environ["PATH"], "HOME": str(self.directory)},
                )
            )

    def _make(self, name: str) -> None:
        meta = {"name": name, "labels": LABEL | {"sextant-test": self.cluster.tag}}
        self.cluster.core.create_node({"metadata": meta, "spec": {"taints": [TAINT]}})

    def _ready(self) -> bool:
        items = self.cluster.core.list_node(label_selector=self._selector()).items
        ready = [
            each
            for each in items
            if any(condition.type == "Ready" and condition.status == "True" for condition in each.status.conditions or [])
        ]
        return len(ready) == len(self.names)

    def _selector(self) -> str:
        return f"sextant-test={self.cluster.tag}"
