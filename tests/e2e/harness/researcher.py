"""A researcher: the official vantage6 client, with the waiting and the looking that every test needs."""

import base64
from pathlib import Path
from typing import Any

from vantage6.client import UserClient
from vantage6.common.encryption import RSACryptor

from .wait import until

# The statuses from which a run does not come back.
FINISHED = {
    "completed",
    "failed",
    "start failed",
    "non-existing Docker image",
    "crashed",
    "killed by user",
    "not allowed",
    "unknown error",
}


class Researcher:
    """Logged in as one user, working in one collaboration."""

    def __init__(
        self,
        url: str,
        port: int,
        api_path: str,
        username: str,
        password: str,
        collaboration: int,
        private_key: Path | None = None,
    ):
        self.client = UserClient(url, port, api_path, log_level="error")
        self.client.authenticate(username, password)
        assert self.client.token, f"the server did not let {username} in"
        # It is a singleton, which would give the second user the key of the first.
        type(RSACryptor)._instances.pop(RSACryptor, None)
        self.client.setup_encryption(private_key)
        self.collaboration = collaboration

    def ask(
        self,
        image: str,
        method: str,
        organizations: list[int],
        databases: list[str] | list[dict] = (),
        name: str = "a question",
        **kwargs: Any,
    ) -> int:
        """Creates a task for the organizations, as `client.task.create` of the documentation does; its id."""
        task = self.client.task.create(
            collaboration=self.collaboration,
            organizations=organizations,
            name=name,
            description="asked by an end-to-end test",
            image=image,
            input_={"method": method, "kwargs": kwargs},
            databases=[each if isinstance(each, dict) else {"label": each} for each in databases],
        )
        assert "id" in task, f"the server refused the task: {task}"
        return task["id"]

    def ask_raw(self, image: str, raw_input: str, organizations: list[int], **more: Any) -> int:
        """Creates a task through REST with an input that no client would send; its id."""
        body = {
            "collaboration_id": self.collaboration,
            "name": "raw",
            "description": "input as it is",
            "image": image,
            "organizations": [{"id": each, "input": raw_input} for each in organizations],
            "databases": [],
        } | more
        task = self.client.request("task", method="post", json=body)
        assert "id" in task, f"the server refused the task: {task}"
        return task["id"]

    def runs(self, task: int) -> list[dict]:
        """The task's runs, by organization."""
        answer = self.client.request("run", params={"task_id": task, "per_page": 100})
        return sorted(answer["data"], key=lambda run: run["organization"]["id"])

    def run(self, task: int) -> dict:
        """The only run of a task."""
        (run,) = self.runs(task)
        return run

    def finished(self, task: int, within: float = 90, node=None) -> list[dict]:
        """Waits until all runs of the task have ended, however; the runs. A node, if given, shows its log when they don't."""

        def all_finished() -> list[dict] | None:
            runs = self.runs(task)
            return runs if runs and all(run["finished_at"] for run in runs) else None

        def shows() -> str:
            seen = [{key: run[key] for key in ("id", "status", "started_at", "log")} for run in self.runs(task)]
            return f"{seen}\n{node.log() if node else ''}"

        return until(f"the runs of task {task} to finish", all_finished, within, every=0.2, shows=shows)

    def results(self, task: int, within: float = 90) -> list[Any]:
        """Waits, and gives the results, decoded by the official client, by organization. Every run must have completed."""
        runs = self.finished(task, within)
        failed = [(run["id"], run["status"], run["log"]) for run in runs if run["status"] != "completed"]
        assert not failed, f"runs that did not complete: {failed}"
        answers = self.client.result.from_task(task)["data"]
        decoded = {answer["run"]["id"]: answer["result"] for answer in answers}
        return [self._json(decoded[run["id"]]) for run in runs]

    def result(self, task: int, within: float = 90) -> Any:
        """The only result of a task."""
        (result,) = self.results(task, within)
        return result

    def result_bytes(self, task: int) -> bytes:
        """The only result as bytes, whatever they are."""
        (answer,) = self.client.request("result", params={"task_id": task})["data"]
        return base64.b64decode(answer["result"])

    def node_status(self, node: int) -> str:
        """online or offline, as the server says."""
        return self.client.node.get(node)["status"]

    def until_node(self, node: int, status: str, within: float = 20) -> None:
        """Waits until the server says that the node has this status."""
        until(f"node {node} to be {status} on the server", lambda: self.node_status(node) == status, within, every=0.2)

    @staticmethod
    def _json(result: Any) -> Any:
        import json

        return json.loads(result) if isinstance(result, str | bytes) else result
