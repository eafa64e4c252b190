"""An encrypted collaboration: what travels can be read by those whom it is for, and by nobody else; each mismatch says what to do."""

import base64
import importlib.util
import json
import subprocess

import pytest
from v6server import Provision, Server
from vantage6.common.encryption import RSACryptor

from harness import average, nodes
from harness.node import NodeProcess
from harness.nodes import AVERAGE, AVERAGE_4_15, LONG
from harness.paths import REPOSITORY, binary
from harness.world import World


def keys(*arguments) -> subprocess.CompletedProcess:
    """`sextant keys …`"""
    return subprocess.run([binary(), "keys", *map(str, arguments)], capture_output=True, text=True)


@pytest.fixture(scope="module")
def world(directory):
    """A server with an encrypted collaboration of three organizations. Their keys: one by `sextant keys new`, two as vantage6 makes them."""
    folder = directory / "keys"
    folder.mkdir()
    files = [folder / f"{number}.pem" for number in range(3)]
    made = keys("new", files[0])
    assert made.returncode == 0, made.stderr
    for file in files[1:]:
        RSACryptor.create_new_rsa_key(file)
    with Server.start(directory / "server-of-encrypted") as server:
        yield World(server, Provision.create(server, organizations=3, encrypted=True), files)


@pytest.fixture(params=["local", pytest.param("kubernetes", marks=pytest.mark.cluster)])
def node(request):
    """Makes a node of the nth organization: both runtimes know nothing of encryption."""
    return request.getfixturevalue(f"{request.param}_node")


@pytest.fixture
def publish(world):
    """Puts a public key of the nth organization at the server; at the end, its own are there again."""

    def put(organization: int, public_key: str) -> None:
        world.server.request("PATCH", f"/organization/{world.organization(organization)}", {"public_key": public_key})

    yield put
    for number, file in enumerate(world.private_keys):
        put(number, keys("show", file).stdout.strip())


def public_key(world, organization: int) -> str:
    return world.server.request("GET", f"/organization/{world.organization(organization)}")["public_key"]


def results_as_stored(world, task: int) -> list[str]:
    return [each["result"] for each in world.server.request("GET", f"/result?task_id={task}")["data"]]


def test_partial_averages_of_three_organizations(node, publish, world):
    """Each node puts its public key at the server, where there was none; the official client gets the right numbers; the server has
    neither question nor answer in the clear."""
    for organization in range(3):
        publish(organization, "")
        started = node(organization).start_online()
        started.wait_log("had no public key at the server; the node uploaded this one")
        assert public_key(world, organization) == keys("show", world.private_key(organization)).stdout.strip()
    researcher = world.user(0)
    task = researcher.ask(AVERAGE, "partial_average", world.organizations, databases=["default"], column_name="salary")
    parts = researcher.results(task)
    expected = [average.partial(file, "salary") for file in average.employee_files()[:3]]
    assert parts == [pytest.approx(part) for part in expected]

    (first, *_), runs = results_as_stored(world, task), researcher.runs(task)
    assert first.count("$") == 2
    for text in [first, *(run["input"] for run in runs)]:
        assert b"sum" not in base64.b64decode(text.split("$")[2]) and "partial" not in text
    for run in runs:
        assert run["log"] and "private" not in run["log"].lower()


@pytest.mark.parametrize("image", [AVERAGE, AVERAGE_4_15])
def test_central_average(image, local_node, publish, world):
    """The algorithm knows nothing of keys: the proxy encrypts its questions for each organization, and decrypts the answers."""
    for organization in range(3):
        local_node(organization).start_online()
    researcher = world.user(1)
    task = researcher.ask(image, "central_average", [world.organization(1)], databases=["default"], column_name="salary")
    expected = average.overall([average.partial(file, "salary") for file in average.employee_files()[:3]])
    assert researcher.result(task)["average"] == pytest.approx(expected)
    (subtask,) = [each["id"] for each in world.server.request("GET", "/task?per_page=100")["data"] if each["parent"]]
    for text in [*results_as_stored(world, subtask), *(run["input"] for run in researcher.runs(subtask))]:
        assert text.count("$") == 2


def test_large_question_and_answer(node, publish, world):
    """Both are streams: some megabytes come back as they were."""
    node().start_online()
    researcher = world.user(0)
    value = "0123456789 åß∂" * 200_000
    task = researcher.ask(AVERAGE, "echo", [world.organization()], value=value)
    assert researcher.result(task) == value


def test_other_forms(local_node, publish, world):
    """What the web interface encrypts, with its additional base64, and a key in PKCS#8."""
    script = REPOSITORY / "crates" / "vantage6" / "tests" / "vectors" / "make.py"
    spec = importlib.util.spec_from_file_location("vectors", script)
    vectors = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(vectors)
    receiver = vectors.cryptor(world.private_key(1).read_text())
    pkcs8 = world.private_key(1).with_suffix(".pkcs8")
    command = ["openssl", "pkcs8", "-topk8", "-nocrypt", "-in", world.private_key(1), "-out", pkcs8]
    subprocess.run(command, check=True)

    local_node(1, encryption={"private_key": str(pkcs8)}).start_online()
    researcher = world.user(1)
    question = json.dumps({"method": "echo", "kwargs": {"value": "å web"}}).encode()
    task = researcher.ask_raw(AVERAGE, vectors.by_web_interface(question, receiver), [world.organization(1)])
    assert researcher.result(task) == "å web"


def test_damaged_questions(node, publish, world):
    """Each ends its own run, with a log that says why, and the node answers on."""
    started = node().start_online()
    node(1).start_online()
    researcher = world.user(0)

    def encrypted(size: int, organization: int = 0) -> str:
        text = json.dumps({"method": "echo", "kwargs": {"value": "x" * size}}).encode()
        return researcher.client.cryptor.encrypt_bytes_to_str(text, public_key(world, organization))

    small, large = encrypted(10), encrypted(300_000)
    damaged = {
        # The server itself refuses what it can read.
        base64.b64encode(bytes(range(200, 230))).decode(): "it is not encrypted, but this collaboration is",
        encrypted(10, organization=1): "its key can't be opened",
        small[:-3]: "it ends in the middle",
        "$".join(small.split("$")[:2]): "it ends before its encrypted part",
        small.replace("$", "$AAAA", 1): "its iv has",
        # Found when the pod asks for it, since only small ones come along with their runs.
        encrypted(300_000, organization=1): "its key can't be opened",
        large[:-3]: "it ends in the middle",
        large[:200_000] + "*" + large[200_001:]: "in its encrypted part, character",
    }
    tasks = [researcher.ask_raw(AVERAGE, text, [world.organization()]) for text in damaged]
    for task, problem in zip(tasks, damaged.values()):
        (run,) = researcher.finished(task)
        assert (run["status"], problem in run["log"]) in [("failed", True), ("start failed", True)], run["log"]
    task = researcher.ask(AVERAGE, "echo", [world.organization()], value="still here")
    assert researcher.result(task) == "still here"
    assert started.running and "panicked" not in started.whole_log()


@pytest.mark.parametrize(
    "at_server, problem",
    [("", "has no public key at the server"), (base64.b64encode(b"no key").decode(), "can't be used: it is not the PEM")],
)
def test_nobody_to_encrypt_for(node, publish, world, at_server, problem):
    """A result that can't be encrypted is given to nobody; that is found before the work is done."""
    node(1).start_online()
    # The client of the organization that asks puts its key there, so it is taken away afterwards.
    researcher = world.user(0)
    publish(0, at_server)
    task = researcher.ask(AVERAGE, "echo", [world.organization(1)], value="secret")
    (run,) = researcher.finished(task)
    assert run["status"] == "failed"
    assert "The result can't be encrypted for the organization that asked" in run["log"] and problem in run["log"]
    assert not results_as_stored(world, task)[0]


def test_the_key_vanishes_while_an_algorithm_works(local_node, publish, world, tmp_path):
    """Then the result is lost, for nobody may have it in the clear; the log says so."""
    node = local_node(1).start_online()
    researcher = world.user(0)
    task = researcher.ask(AVERAGE, "sleep_then", [world.organization(1)], seconds=LONG, value="secret", unless=str(tmp_path / "enough"))
    node.wait_log("Launching run")
    publish(0, "")
    # A process that has not seen the key.
    node.restart_killed()
    (tmp_path / "enough").touch()
    (run,) = researcher.finished(task)
    assert run["status"] == "failed"
    assert "organization that asked: organization" in run["log"] and "no public key" in run["log"]
    assert not results_as_stored(world, task)[0]


def refused(node: NodeProcess) -> str:
    """The node does not start, for what the server says; its log."""
    assert node.start().wait_end(30) == 3
    return node.log()


def test_only_the_server_says_encrypted(local_node, publish, world):
    """Results would be refused, or worse, travel in the clear."""
    log = refused(local_node(encryption=None))
    assert "is encrypted, but the configuration does not have `encryption.enabled: true`" in log
    assert "sextant keys new" in log


def test_only_the_configuration_says_encrypted(world, started, tmp_path):
    """Whoever set it wants it so: the node does not give in."""
    plain = World(world.server, Provision.create(world.server, organizations=1))
    config = nodes.local(plain, 0, tmp_path)
    config["encryption"] = {"enabled": True, "private_key": str(world.private_key())}
    node = NodeProcess(tmp_path / "node", config)
    started.append(node)
    assert "is not encrypted: all data would be sent unencrypted" in refused(node)


def test_another_key(local_node, publish, world):
    """The node says which key is where, and leaves the server's alone; `sextant keys check` says the same, and replaces it when told to."""
    publish(0, keys("show", world.private_key(0)).stdout.strip())
    node = local_node(encryption={"private_key": str(world.private_key(1))})
    log = refused(node)
    assert "does not belong to the public key that organization" in log and "fingerprint" in log
    assert public_key(world, 0) == keys("show", world.private_key(0)).stdout.strip()

    check = keys("check", node.config_file)
    assert check.returncode == 3 and "--replace" in check.stderr and not check.stdout
    check = keys("check", node.config_file, "--replace")
    assert check.returncode == 0 and "has this key at the server now" in check.stdout, check.stderr
    check = keys("check", node.config_file)
    assert check.returncode == 0 and "They agree" in check.stdout
    assert public_key(world, 0) == keys("show", world.private_key(1)).stdout.strip()
    node.start_online()


def test_a_file_that_is_no_key(local_node, world, tmp_path):
    """Exit code 2, as for every mistake in a configuration, with its place."""
    file = tmp_path / "key.pem"
    for text, problem in (("nothing", "it is not a PEM file"), (None, "No such file")):
        file.write_text(text) if text else file.unlink()
        node = local_node(encryption={"private_key": str(file)}).start()
        assert node.wait_end(15) == 2
        assert "`encryption.private_key`" in node.log() and problem in node.log()


@pytest.mark.cluster
def test_nothing_of_the_key_is_in_the_cluster(kubernetes_node, publish, world, cluster):
    """Neither Secrets nor Jobs nor pods nor the node's log hold it, nor the input."""
    node = kubernetes_node(logging={"level": "DEBUG"}).start_online()
    researcher = world.user(0)
    task = researcher.ask(AVERAGE, "echo", [world.organization()], value="an invented secret")
    assert researcher.result(task) == "an invented secret"
    seen = cluster.everything() + node.whole_log()
    assert "v6-task" in seen
    pem = world.private_key(0).read_text()
    lines = [line for line in pem.splitlines() if not line.startswith("-----")]
    assert not [line for line in lines if line in seen]
    assert "PRIVATE" not in seen and "an invented secret" not in seen
    assert not [line for line in lines if base64.b64encode(line[:48].encode()).decode() in seen]
