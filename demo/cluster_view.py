"""Tells of Jobs and pods as they come and go, as `kubectl get --watch` would, but in sentences."""

import contextlib
import threading

from harness.cluster import SELECTOR, Cluster
from kubernetes import client, config, watch
from show import Show

# What the Jobs and pods of runs have, and nobody else's.
RUNS = f"{SELECTOR},vantage6.ai/run"
# The containers of a run's pod, in words.
ROLES = {
    "receive": "fetches input and token from the node",
    "algorithm": "runs the task's image next to the data",
    "return": "uploads the output to the node",
}


class ClusterView:
    """While entered, prints every change of a run's Job and pod."""

    def __init__(self, cluster: Cluster, show: Show):
        self._show = show
        self._namespace = cluster.jobs_namespace
        self._kubeconfig = str(cluster.kubeconfig)
        self._over = threading.Event()
        self._watches: list[watch.Watch] = []
        self._told: set[str] = set()

    def __enter__(self) -> "ClusterView":
        for run in (self._jobs, self._pods):
            threading.Thread(target=self._watch, args=(run,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for each in self._watches:
            each.stop()

    def _watch(self, run) -> None:
        while not self._over.is_set():
            # A watch ends now and then; the next one tells again what is there, which is not told twice.
            with contextlib.suppress(Exception):
                run(config.new_client_from_config(self._kubeconfig))

    def _events(self, listing):
        stream = watch.Watch()
        self._watches.append(stream)
        return stream.stream(listing, self._namespace, label_selector=RUNS)

    def _jobs(self, api: client.ApiClient) -> None:
        for event in self._events(client.BatchV1Api(api).list_namespaced_job):
            job = event["object"]
            self._tell(f"Job  {job.metadata.name} is there")
            for condition in job.status.conditions or []:
                if condition.type in ("Complete", "Failed") and condition.status == "True":
                    self._tell(f"Job  {job.metadata.name} is {condition.type.lower()}")
            if event["type"] == "DELETED":
                self._tell(f"Job  {job.metadata.name} is gone")

    def _pods(self, api: client.ApiClient) -> None:
        for event in self._events(client.CoreV1Api(api).list_namespaced_pod):
            pod = event["object"]
            who = f"pod  of run {pod.metadata.labels['vantage6.ai/run']}:"
            for status in (pod.status.init_container_statuses or []) + (pod.status.container_statuses or []):
                if status.state.running:
                    self._tell(f"{who} {status.name} runs")
                if status.state.terminated:
                    self._tell(f"{who} {status.name} ended with exit code {status.state.terminated.exit_code}")
            if event["type"] == "DELETED":
                self._tell(f"{who} gone")

    def _tell(self, text: str) -> None:
        if text not in self._told and not self._over.is_set():
            self._told.add(text)
            self._show.event(text)
