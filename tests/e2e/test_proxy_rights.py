"""What an algorithm may do through the proxy of an encrypted collaboration, at a real server: two jobs, one proxy."""

import base64
import time
from collections.abc import Iterator

import pytest

from harness.nodes import AVERAGE
from harness.proxies import ProxyProcess
from harness.world import own_world

SECRET = b"a result of somebody's"


@pytest.fixture(scope="module")
def world(directory):
    """A server with an encrypted collaboration."""
    with own_world(directory, "rights", encrypted=True) as made:
        # The official client puts its organization's key there.
        made.user(0)
        yield made


@pytest.fixture
def served(world, tmp_path) -> Iterator[ProxyProcess]:
    """The proxy of the first organization's node."""
    encryption = {"enabled": True, "private_key": str(world.private_key())}
    made = ProxyProcess(tmp_path, world, world.server.port, encryption=encryption)
    yield made
    made.stop()


def text(plain: bytes) -> str:
    return base64.b64encode(plain).decode()


def task(world, **more) -> dict:
    """A subtask as the tools send it."""
    return {
        "collaboration_id": world.provision.collaboration_id,
        "name": "subtask",
        "image": AVERAGE,
        "organizations": [{"id": world.organization(), "input": text(b'{"method": "echo"}')}],
        "databases": [],
    } | more


def job(world, served) -> tuple[str, int, int]:
    """A job of its own: its algorithm's token, its subtask and that one's run, whose result is there."""
    researcher = world.user(0)
    root = researcher.ask(AVERAGE, "echo", [world.organization()], value=1)
    token = world.container_token(root, AVERAGE)
    status, subtask = served.ask("/task", token, "POST", task(world))
    assert status == 201, subtask
    (run,) = world.server.request("GET", f"/run?task_id={subtask['id']}")["data"]
    assert run["input"].count("$") == 2, "encrypted by the proxy"
    public = world.server.request("GET", f"/organization/{world.organization()}")["public_key"]
    result = researcher.client.cryptor.encrypt_bytes_to_str(SECRET, public)
    done = {"started_at": "2026-01-01T00:00:00.000000", "status": "active", "result": result}
    world.server.request("PATCH", f"/run/{run['id']}", done, token=world.node_token())
    return token, subtask["id"], run["id"]


def test_two_jobs_one_proxy(served, world):
    """Each gets its own subtask's result in the clear, and the other's as it is stored, however it asks."""
    jobs = [job(world, served) for _ in range(2)]
    for (token, own, own_run), (_, other, other_run) in (jobs, jobs[::-1]):
        _, page = served.ask(f"/result?task_id={own}&page=1", token)
        assert [each["result"] for each in page["data"]] == [text(SECRET)]
        assert served.ask(f"/result/{own_run}", token)[1]["result"] == text(SECRET)
        for path in (
            f"/result?task_id={other}",
            f"/result?task_id={other}&task_id={own}",
            f"/result?task_id=%20{other}",
            "/result?per_page=50",
            "/result",
            f"/result/{other_run}",
            f"/task/{other}?include=results",
        ):
            status, said = served.ask(path, token)
            assert status == 200 and text(SECRET) not in str(said), path
            assert "$" in str(said), path


def test_subtasks_leave_encrypted_and_of_one_image(served, world):
    """What the server would carry out, and store as it came, does not leave."""
    token, _, _ = job(world, served)
    before = world.server.request("GET", "/task?per_page=1")["data"][0]["id"]
    for method in ("post", "Post", "PUT", "PATCH", "put"):
        status, said = served.ask("/task", token, method, task(world))
        assert status in (403, 405) and "msg" in said, method
    for image in (f"evil.example.org/{AVERAGE}", AVERAGE.upper(), f"{AVERAGE} ", ""):
        status, said = served.ask("/task", token, "POST", task(world, image=image))
        assert status == 403 and "image" in said["msg"], image
    assert world.server.request("GET", "/task?per_page=1")["data"][0]["id"] == before


def test_a_token_that_outlives_its_task(served, world):
    """SQLite gives the number of a deleted task again: its token gets nothing of the later task, of the same image."""
    researcher = world.user(0)
    first = researcher.ask(AVERAGE, "echo", [world.organization()], value=1)
    old = world.container_token(first, AVERAGE)
    world.server.request("DELETE", f"/task/{first}")
    # The server cuts times of tokens to seconds.
    time.sleep(4)
    token, subtask, run = job(world, served)
    assert world.server.request("GET", f"/task/{subtask}")["parent"]["id"] == first, "the number is used again"
    assert served.ask(f"/result/{run}", token)[1]["result"] == text(SECRET)
    for path in (f"/result/{run}", f"/result?task_id={subtask}"):
        status, said = served.ask(path, old)
        assert status == 200 and text(SECRET) not in str(said), path
    status, said = served.ask("/task", old, "POST", task(world))
    assert status == 403 and "another task" in said["msg"]


def test_log_ins_are_not_for_algorithms(served, world):
    """Nothing of users, nodes and rights is asked in an algorithm's name."""
    token, _, _ = job(world, served)
    user = world.provision.users[0]
    for method, path, body in (
        ("POST", "/token/user", {"username": user["username"], "password": user["password"]}),
        ("POST", "/token/node", {"api_key": world.api_key()}),
        ("POST", "/recover/lost", {"username": user["username"]}),
        ("GET", "/user", None),
        ("GET", "/role", None),
        ("GET", "/rule", None),
    ):
        status, said = served.ask(path, token, method, body)
        assert status == 403 and "no algorithm needs" in said["msg"], path
