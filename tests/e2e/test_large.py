"""Large and odd data: results and inputs of any size and content, logs without an end. The node and its two containers stay small.

The whole sizes take minutes, most of them the real server's: `make test-large`. Without them the same is done with a fifth of each.
"""

import base64
import hashlib
import json
import os
import subprocess
import sys

import pytest
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from v6server import Provision, Server
from vantage6.common.serialization import serialize

from faultproxy import FaultProxy
from harness.memory import Containers
from harness.nodes import ODD
from harness.paths import binary
from harness.world import World

WHOLE = bool(os.environ.get("SEXTANT_E2E_LARGE"))
PART = 1 if WHOLE else 5
THROUGH_SERVER = 300_000_000 // PART
GIGABYTE = 1_000_000_000
# How much memory each of node, receive and return may take.
ENOUGH = 64_000_000
# How much of a log is reported.
TAIL = 1024 * 1024
LOUD = "localhost/loud:1"
PASSWORD, PARAMETER, VARIABLE = "p@ss/word-1", "parameter-2", "variable-3"
SECRETS = {
    "databases": [
        {
            "label": "warehouse",
            "type": "sql",
            "uri": "postgresql://reader:p%40ss%2Fword-1@192.0.2.1:5432/people",
            "env": {"user": "reader", "something": PARAMETER},
        }
    ],
    "algorithm_env": {"HUB_TOKEN": VARIABLE, "COLOUR": "turquoise"},
}


def pattern(size: int) -> bytes:
    """What the odd algorithm puts out: every byte there is, over and over."""
    return (bytes(range(256)) * (size // 256 + 1))[:size]


def encoded_digest(size: int) -> tuple[int, str]:
    """Length and SHA-256 of that in base64, without making it as a whole."""
    block, digest, length = pattern(256 * 3 * 1000), hashlib.sha256(), 0
    for left in range(size, 0, -len(block)):
        text = base64.b64encode(block[:left])
        digest.update(text)
        length += len(text)
    return length, digest.hexdigest()


@pytest.fixture(scope="module")
def world(request, directory, world):
    """The server of all tests, or, where a test asks for that, one with an encrypted collaboration."""
    if getattr(request, "param", "plain") == "plain":
        yield world
        return
    key = directory / "large.pem"
    made = subprocess.run([binary(), "keys", "new", key], capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    with Server.start(directory / "server-of-large") as server:
        yield World(server, Provision.create(server, organizations=1, encrypted=True), [key])


both = pytest.mark.parametrize("world", ["plain", "encrypted"], indirect=True)


@pytest.fixture
def containers():
    """Looks at the memory of Sextant's containers meanwhile."""
    with Containers() as watched:
        yield watched


def ended(researcher, task: int, status: str = "completed", within: float = 280) -> dict:
    """The task's only run, once it has ended, as it should."""
    (run,) = researcher.finished(task, within)
    assert run["status"] == status, run["log"]
    return run


def stored(world, researcher, task: int) -> bytes:
    """The only result, decoded, and decrypted where it must be. The official client's cryptor can't be asked for that: of what it has
    decrypted it takes text that is no JSON for base64, and at what is no text it raises UnicodeDecodeError."""
    (answer,) = researcher.client.request("result", params={"task_id": task})["data"]
    parts = [base64.b64decode(part) for part in answer["result"].split("$")]
    if not world.private_keys:
        return parts[0]
    private_key = load_pem_private_key(world.private_key().read_bytes(), None)
    cipher = Cipher(algorithms.AES(private_key.decrypt(parts[0], PKCS1v15())), modes.CTR(parts[1]))
    return cipher.decryptor().update(parts[2])


# -- results ------------------------------------------------------------------------------------


@pytest.mark.cluster
def test_a_result_of_nothing(kubernetes_node, researcher, world):
    """No output is no result, and the log says so."""
    kubernetes_node().start_online()
    run = ended(researcher, researcher.ask(ODD, "output", [world.organization()], bytes=0), "failed")
    assert "wrote no output" in run["log"]


@pytest.mark.cluster
@both
def test_results_that_are_no_text(kubernetes_node, world):
    """A result may hold any bytes, and be of any length."""
    kubernetes_node().start_online()
    researcher = world.user(0)
    sizes = [1, 255, 65_537, 10_000_000]
    tasks = [researcher.ask(ODD, "output", [world.organization()], bytes=size) for size in sizes]
    for task, size in zip(tasks, sizes):
        ended(researcher, task)
        assert stored(world, researcher, task) == pattern(size)


@pytest.mark.cluster
@both
def test_a_large_result(kubernetes_node, world, cluster, containers):
    """As large as the real server takes it: the researcher gets it as it was."""
    node = kubernetes_node().start_online()
    node.forget_peak()
    researcher = world.user(0)
    task = researcher.ask(ODD, "output", [world.organization()], bytes=THROUGH_SERVER)
    run = ended(researcher, task)["id"]
    result = stored(world, researcher, task)
    assert len(result) == THROUGH_SERVER
    assert hashlib.sha256(result).digest() == hashlib.sha256(pattern(THROUGH_SERVER)).digest()
    small(node, cluster, containers, run, "return")


@pytest.mark.cluster
@both
def test_a_gigabyte(kubernetes_node, world, cluster, containers):
    """More than the real server with its SQLite could store: the result is counted and digested on its way there."""
    settings = {"output_limit": "2Gi"}
    with FaultProxy(world.server.port) as proxy, proxy.swallow() as swallowed:
        node = kubernetes_node(via=proxy, kubernetes=settings).start_online()
        node.forget_peak()
        researcher = world.user(0)
        run = ended(researcher, researcher.ask(ODD, "output", [world.organization()], bytes=GIGABYTE))["id"]
    length, digest = encoded_digest(GIGABYTE)
    if world.private_keys:
        # Before it come the key and the counter's beginning.
        assert length + 500 < swallowed.length < length + 1000
    else:
        assert (swallowed.length, swallowed.digest) == (length, digest)
    small(node, cluster, containers, run, "return")


def small(node, cluster, containers: Containers, run: int, container: str) -> None:
    """Neither the node nor that container has taken more memory than is enough."""
    peaks = {"node": node.peak_bytes(), container: containers.peak(cluster, run, container)}
    print({what: f"{peak / 1e6:.1f} MB" for what, peak in peaks.items()})
    assert max(peaks.values()) <= ENOUGH, peaks


# -- inputs -------------------------------------------------------------------------------------


@pytest.mark.cluster
@both
def test_a_large_input(kubernetes_node, world, cluster, containers):
    """The other way: the algorithm finds the very bytes that the client has packed."""
    node = kubernetes_node()
    researcher = world.user(0)
    filling = "x" * THROUGH_SERVER
    task = researcher.ask(ODD, "digest", [world.organization()], filling=filling)
    node.start_online()
    node.forget_peak()
    run = ended(researcher, task)["id"]
    packed = serialize({"method": "digest", "kwargs": {"filling": filling}})
    assert json.loads(stored(world, researcher, task)) == {"bytes": len(packed), "sha256": hashlib.sha256(packed).hexdigest()}
    small(node, cluster, containers, run, "receive")


# -- logs ---------------------------------------------------------------------------------------


def tail_of(run: dict) -> str:
    """The reported end of a long log, without the line that says so."""
    said, _, rest = run["log"].partition("\n")
    assert said.startswith("[sextant] The log was longer: these are its last ") and said.endswith(" bytes."), said
    assert TAIL // 2 < len(rest) <= TAIL
    return rest


@pytest.fixture(params=["local", pytest.param("kubernetes", marks=pytest.mark.cluster)])
def loud(request, researcher, world):
    """Runs an algorithm with much to say, on either runtime: the run at its end, and what node it was. Of the odd algorithm the method's
    name and kwargs are given, of the local one a Python program that does the same."""

    def run(program: str, method: str, databases: list[str] = (), settings: dict | None = None, **kwargs):
        settings = settings or {}
        if request.param == "local":
            command = [sys.executable, "-c", LOCAL + program]
            make, image = request.getfixturevalue("local_node"), LOUD
            settings = settings | {"local": {"algorithms": {LOUD: command}}}
        else:
            make, image = request.getfixturevalue("kubernetes_node"), ODD
        node = make(**settings).start_online()
        node.forget_peak()
        task = researcher.ask(image, method, [world.organization()], databases=databases, **kwargs)
        run = ended(researcher, task)
        assert node.peak_bytes() <= ENOUGH
        return run

    return run


LOCAL = """
import base64, os, sys
out = sys.stdout.buffer
def given(name):
    return base64.b32decode(os.environ[name].replace("!", "="))
open(given("OUTPUT_FILE"), "w").write("1")
"""


def test_a_log_without_an_end(loud):
    """A gigabyte, quickly: its end is there, and it says that it is but the end."""
    run = loud("block = b'y' * 99 + b'\\n'\nfor _ in range(1000): out.write(block * 10_000)", "log", bytes=GIGABYTE)
    lines = tail_of(run).splitlines()
    assert len(lines) > 10_000
    assert {len(line) for line in lines} == {99}
    if lines[0][0] != "y":
        numbers = [int(line.split()[0]) for line in lines]
        assert numbers == list(range(GIGABYTE // 100 - len(lines), GIGABYTE // 100))


def test_a_line_without_an_end(loud):
    """A hundred megabytes in one line: there is no line to begin at."""
    run = loud("for _ in range(1000): out.write(b'x' * 100_000)", "log", bytes=100_000_000, line=0)
    assert set(tail_of(run)) <= set("x\n")


def test_a_log_that_is_no_text(loud):
    """Colours stay; NUL and what is no UTF-8 can't be stored everywhere, and become U+FFFD."""
    raw = b"\x1b[31mred\x1b[0m \0 \xff\xfe caf\xc3\xa9 \xc3\n"
    run = loud(f"out.write({raw!r})", "say", hex=raw.hex())
    assert "\x1b[31mred\x1b[0m \ufffd \ufffd\ufffd caf\xe9 \ufffd\n" in run["log"]


def test_secrets_are_masked(loud, world):
    """An algorithm that prints all that it was given tells the researcher no passwords, no tokens; and the rest can be read."""
    program = """
for name, value in os.environ.items():
    print(name, value, "" if name in ("PATH", "HOME", "LANG", "LC_CTYPE", "TMPDIR", "SEXTANT_RUN_FOLDER") else given(name))
print(open(given("TOKEN_FILE")).read())
"""
    log = loud(program, "tell", databases=["warehouse"], settings=SECRETS)["log"]
    for secret in (PASSWORD, "p%40ss%2Fword-1", PARAMETER, VARIABLE, "eyJ"):
        assert secret not in log
        assert base64.b32encode(secret.encode()).decode().rstrip("=") not in log
    assert log.count("***") >= 6
    assert "postgresql://reader:***@192.0.2.1:5432/people" in log
    assert "turquoise" in log


def test_a_secret_across_the_beginning_of_the_tail(loud):
    """A secret of which only the end would be left is masked, too."""
    after = TAIL - len(VARIABLE) + 4
    program = f"out.write({VARIABLE!r}.encode() + b'x' * {after})"
    log = loud(program, "say", settings=SECRETS, text=VARIABLE, after=after)["log"]
    # Nothing of it is left where the program's first line, on the other stream, was written after it: the tail begins behind that.
    assert tail_of({"log": log}).strip("x\n") in ("***", "")
