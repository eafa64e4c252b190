"""The server's side of a test: the server, a collaboration of organizations, and the researcher who asks them."""

import base64
import contextlib
import functools
import json
from collections.abc import Iterator
from pathlib import Path

from v6server import Provision, Server
from vantage6.common.encryption import RSACryptor

from .researcher import Researcher
from .wait import until


class World:
    """One server with one collaboration. The server checks an API key against every node that exists on it, a quarter of a second each:
    so the nodes are made once and used by all tests, one after another."""

    def __init__(self, server: Server, provision: Provision, private_keys: list[Path] | None = None):
        self.server = server
        self.provision = provision
        self.private_keys = private_keys

    @functools.cached_property
    def researcher(self) -> Researcher:
        """The user of the first organization."""
        return self.user(0)

    def user(self, organization: int) -> Researcher:
        """A user of the nth organization, logged in anew."""
        user = self.provision.users[organization]
        server = self.server
        return Researcher(
            server.host,
            server.port,
            server.api_path,
            user["username"],
            user["password"],
            self.provision.collaboration_id,
            self.private_key(organization),
        )

    def private_key(self, organization: int = 0) -> Path | None:
        """The nth organization's private key, in an encrypted collaboration."""
        return self.private_keys[organization] if self.private_keys else None

    def organization(self, number: int = 0) -> int:
        """The id of the nth organization."""
        return self.provision.organizations[number]["id"]

    @property
    def organizations(self) -> list[int]:
        """The ids of all."""
        return [each["id"] for each in self.provision.organizations]

    def node(self, number: int = 0) -> int:
        """The id of the nth organization's node."""
        return self.provision.nodes[number]["id"]

    def api_key(self, number: int = 0) -> str:
        """Its API key."""
        return self.provision.nodes[number]["api_key"]

    def node_token(self, number: int = 0) -> str:
        """An access token of the nth organization's node."""
        return self.server.request("POST", "/token/node", {"api_key": self.api_key(number)}, token=None)["access_token"]

    def container_token(self, task: int, image: str) -> str:
        """The token that the first organization's algorithm of a task gets. The task must be under way."""
        asked = {"task_id": task, "image": image}
        return self.server.request("POST", "/token/container", asked, token=self.node_token())["container_token"]

    def subtask(self, parent: int, image: str, method: str, organizations: list[int], **kwargs) -> int:
        """Creates a task as the parent's algorithm would, with a container token: it belongs to the parent's job. The parent must be under way."""
        server = self.server
        container = self.container_token(parent, image)
        text = base64.b64encode(json.dumps({"method": method, "kwargs": kwargs}).encode()).decode()
        task = {
            "collaboration_id": self.provision.collaboration_id,
            "name": "a subtask",
            "description": "",
            "image": image,
            "organizations": [{"id": each, "input": text} for each in organizations],
            "databases": [],
        }
        return server.request("POST", "/task", task, token=container)["id"]

    def forget_tasks(self) -> None:
        """Deletes all tasks, so that no node of a later test takes up their runs; and waits until the server knows that the nodes are gone."""
        for task in self.server.request("GET", "/task?per_page=100&sort=-id")["data"]:
            if not task["parent"]:
                self.server.request("DELETE", f"/task/{task['id']}")
        until(
            "the nodes to be offline on the server",
            lambda: all(
                node["status"] != "online" for node in self.server.request("GET", "/node?per_page=100")["data"]
            ),
            within=45,
        )


@contextlib.contextmanager
def own_world(directory: Path, name: str, encrypted: bool) -> Iterator[World]:
    """A server of this name with a collaboration of three organizations; if that is encrypted, with keys as vantage6 makes them."""
    files = None
    if encrypted:
        keys = directory / f"{name}-keys"
        keys.mkdir()
        files = [keys / f"{number}.pem" for number in range(3)]
        for file in files:
            RSACryptor.create_new_rsa_key(file)
    with Server.start(directory / f"{name}-{'encrypted' if encrypted else 'unencrypted'}") as server:
        yield World(server, Provision.create(server, organizations=3, encrypted=encrypted), files)
