"""Algorithms that want more than they are given, behind the network policies of the chart: what they find, and what they break. Nothing.

One release for all of them, as an attacker would meet it: a node and its proxy, other runs, a server.
"""

import json
from collections.abc import Iterator

import pytest

from harness import average
from harness.nodes import AVERAGE, ODD
from harness.release import Release
from harness.wait import until

pytestmark = [pytest.mark.cluster, pytest.mark.needs("helm"), pytest.mark.timeout(600)]

PROXY = "proxyserver:8080"
# The capabilities that the kernel knows are bits of this number.
NONE = "0000000000000000"


@pytest.fixture(scope="module")
def node(cluster, world) -> Iterator[Release]:
    """The node under attack."""
    made = Release(cluster, world, 0)
    try:
        yield made.install().until_ready()
    finally:
        made.remove()
        world.forget_tasks()


@pytest.fixture(autouse=True)
def forget() -> None:
    """Not after each test, as elsewhere: the node stays."""


@pytest.fixture(autouse=True)
def unharmed(node, researcher, world) -> Iterator[None]:
    """After each attack: node and proxy are the same processes as before, ready, and do their work."""
    yield
    assert {role: restarts(node, role) for role in ("node", "proxy")} == {"node": [0], "proxy": [0]}, node.describe()
    until("node and proxy to be ready", lambda: node.ready("node") and node.ready("proxy"), shows=node.describe)
    part = researcher.ask(AVERAGE, "partial_average", [world.organization()], databases=["default"], column_name="salary")
    expected = average.partial(average.employee_files()[0], "salary")
    assert researcher.result(part, within=120) == pytest.approx(expected)


def restarts(node: Release, role: str) -> list[int]:
    return [pod.status.container_statuses[0].restart_count for pod in node.pods(role)]


@pytest.fixture
def data_port(node) -> str:
    """Where pods reach the node."""
    return f"{node.cluster.core.read_namespaced_service('sextant-node', node.namespace).spec.cluster_ip}:7654"


@pytest.fixture
def attack(researcher, world):
    """Runs a behaviour of the odd algorithm at the node; what it answers."""

    def run(method: str, within: float = 120, **kwargs):
        return researcher.result(researcher.ask(ODD, method, [world.organization()], **kwargs), within)

    return run


def test_a_curious_algorithm_reaches_two_ports(node, attack, cluster, world, data_port):
    """Of all that there is around it, by address, by name and by sweeping its network: proxy and data port."""
    api = cluster.core.read_namespaced_service("kubernetes", "default").spec.cluster_ip
    machine = cluster.host_address()
    pods = {role: node.pods(role)[0].status.pod_ip for role in ("node", "proxy")}
    closed = [
        f"{api}:443",
        f"{machine}:6443",
        f"{machine}:10250",
        f"{machine}:{world.server.port}",
        f"{pods['node']}:8081",
        f"{pods['proxy']}:8081",
        "169.254.169.254:80",
    ]
    names = f"{api.rsplit('.', 1)[0]}.10:53"
    seen = attack(
        "explore",
        addresses=",".join([PROXY, data_port, *closed]),
        udp=f"{names},{machine}:53",
        names="kubernetes.default.svc,hospital.example,proxyserver",
        seconds=4,
    )
    doors = {address: seen["tcp"].pop(address) for address in (PROXY, data_port)}
    if set(doors.values()) != {"open"}:
        # A Service's rules are made anew whenever one of the cluster changes; algorithms' tools try again, too.
        print(f"not open at first: {doors}", node.describe())
        again = attack("connect", addresses=",".join(doors), seconds=4)
        assert again == dict.fromkeys(doors, "open")
    assert [address for address in closed if seen["tcp"][address] != "timeout"] == [], seen["tcp"]
    assert set(seen["dns"].values()) == {"silent"}
    proxyserver = seen["names"].pop("proxyserver")
    assert proxyserver.endswith("after 0 s") and not proxyserver.startswith("unknown")
    # At once: an algorithm must not hang in looking up names.
    assert set(seen["names"].values()) <= {"unknown after 0 s", "unknown after 1 s"}, seen["names"]

    network = pods["node"].rsplit(".", 1)[0] + "."
    assert set(attack("sweep", prefix=network, port=7654)) <= {f"{pods['node']}:7654"}
    assert set(attack("sweep", prefix=network, port=8081)) == set()


def test_a_curious_algorithm_has_no_powers(attack):
    """No account, no key, no capability, no way to get one; the kernel refuses all that only the privileged may."""
    seen = attack("explore")
    assert {name for name, outcome in seen["may"].items() if outcome == "YES"} == set()
    assert len(seen["may"]) == 10
    sees = seen["sees"]
    assert (sees["CapEff"], sees["CapBnd"], sees["NoNewPrivs"], sees["Seccomp"]) == (NONE, NONE, "1", "2")
    assert [sees[each] for each in ("account", "runtime", "docker", "key")] == [False] * 4
    assert [name for name in sees["variables"] if name.startswith("SEXTANT")] == []


@pytest.mark.parametrize("kind", ["flood", "idle", "slow", "headers", "body", "garbage"])
def test_an_attack_on_the_proxy(kind, attack):
    """Two hundred connections at a time. Nothing but a plain answer or a closed connection, and others are served meanwhile."""
    seen = attack("attack", kind=kind, address=PROXY, connections=200, seconds=5)
    assert sum(seen.values()) >= 200
    allowed = ("HTTP/1.1 200", "HTTP/1.1 4", "HTTP/1.1 503", "HTTP/1.1 504", "closed", "reset", "timeout", "to its end", "no connection", "nothing")
    # The flood asks again without having waited for all of an answer: then its body comes before the next one's head.
    plain = [outcome.removeprefix('{"version": "4.5.5"}') for outcome in seen]
    assert [outcome for outcome in plain if not outcome.startswith(allowed)] == []
    if kind in ("headers", "body", "garbage"):
        assert not any("200" in outcome for outcome in seen), seen


@pytest.mark.parametrize(
    ("kind", "tls"),
    [("flood", True), ("idle", False), ("idle", True), ("slow", True), ("headers", True), ("body", True), ("garbage", False)],
)
def test_an_attack_on_the_data_port(kind, tls, attack, data_port):
    """Nobody without a key hears anything that helps, and the runs of others bring their outputs meanwhile."""
    seen = attack("attack", kind=kind, address=data_port, tls=str(tls).lower(), connections=200, seconds=5)
    assert not any("200" in outcome for outcome in seen), seen


def test_runs_go_on_while_one_attacks(researcher, world, data_port):
    """A flood of both doors for twenty seconds, and the average of another task in its middle."""
    here = [world.organization()]
    floods = [
        researcher.ask(ODD, "attack", here, kind="flood", address=address, tls=tls, connections=100, seconds=20)
        for address, tls in ((PROXY, "false"), (data_port, "true"))
    ]
    part = researcher.ask(AVERAGE, "partial_average", here, databases=["default"], column_name="salary")
    expected = average.partial(average.employee_files()[0], "salary")
    assert researcher.result(part, within=120) == pytest.approx(expected)
    for flood in floods:
        researcher.result(flood, within=120)


def test_an_attack_on_the_proxy_from_many_addresses(researcher, world):
    """Five pods, each with an address of its own and 200 connections that say nothing: more than a proxy keeps of those that have shown
    no token. An algorithm that needs the proxy for its subtasks is served meanwhile."""
    here = [world.organization()]
    crowd = [
        researcher.ask(ODD, "attack", here, kind="idle", address=PROXY, connections=200, seconds=40) for _ in range(5)
    ]
    task = researcher.ask(AVERAGE, "central_average", here, databases=["default"], column_name="salary", org_ids=here)
    expected = average.overall([average.partial(average.employee_files()[0], "salary")])
    assert researcher.result(task, within=120) == {"average": pytest.approx(expected)}
    for attacker in crowd:
        researcher.result(attacker, within=120)


def request(line: str, *headers: str, body: str = "") -> str:
    return "\r\n".join([line, "Host: proxyserver", "Connection: close", *headers, "", body])


# The odd algorithm puts its own token there: what is refused is not refused for the want of one.
OWN = "Authorization: Bearer {token}"


# Each with the statuses by which it may be refused: the proxy's own, or the server's, where what is left of it is a request like another.
SMUGGLED = {
    "two lengths": (request("POST /task HTTP/1.1", OWN, "Content-Length: 5", "Content-Length: 50", body="hello"), {400}),
    # The chunks count, and what follows them is never read: it is an empty task.
    "length and chunks": (
        request(
            "POST /task HTTP/1.1",
            OWN,
            "Content-Length: 4",
            "Transfer-Encoding: chunked",
            body="0\r\n\r\nGET /organization HTTP/1.1\r\n\r\n",
        ),
        {400, 415},
    ),
    "odd chunks": (request("POST /task HTTP/1.1", OWN, "Transfer-Encoding: xchunked", body="0\r\n\r\n"), {400}),
    "negative length": (request("POST /task HTTP/1.1", OWN, "Content-Length: -1"), {400}),
    "length with plus": (request("POST /task HTTP/1.1", OWN, "Content-Length: +5", body="hello"), {400}),
    "space before colon": (request("POST /task HTTP/1.1", OWN, "Content-Length : 5", body="hello"), {400}),
    # Its body is wrong, not its head.
    "no end of chunk size": (
        request("POST /task HTTP/1.1", OWN, "Transfer-Encoding: chunked", body="FFFFFFFFFFFFFFFFFF\r\n"),
        {400, 415, 502},
    ),
    "NUL in a header": (request("GET /version HTTP/1.1", OWN, "X-Odd: a\0b"), {400}),
}
# Each with its status: the proxy's refusal, or the answer of the server's API, to which alone it leads.
TWISTED = {
    "another host": (request("GET http://10.96.0.1/organization HTTP/1.1", OWN), 200),
    "a tunnel": (request("CONNECT 10.96.0.1:443 HTTP/1.1", OWN), 405),
    "out of the API": (request("GET /../socket.io/?transport=polling&EIO=4 HTTP/1.1", OWN), 400),
    "out of the API, encoded": (request("GET /%2e%2e/socket.io/?transport=polling&EIO=4 HTTP/1.1", OWN), 400),
    "two slashes": (request("GET //organization HTTP/1.1", OWN), 200),
    "backslashes": (request("GET /\\..\\organization HTTP/1.1", OWN), 400),
    "an upgrade": (request("GET /organization HTTP/1.1", OWN, "Connection: Upgrade", "Upgrade: websocket"), 200),
}


def statuses(answers: list[str]) -> list[int]:
    return [int(answer.split()[1]) if answer.startswith("HTTP/1.") else 0 for answer in answers]


def sent(attack, texts: list[str]) -> list[int]:
    """The statuses of requests that are sent as they are, with the algorithm's own token."""
    return statuses(attack("attack", kind="raw", address=PROXY, texts=texts))


def test_smuggled_requests(attack):
    """What two parsers could read in two ways is refused by the first, also where it comes with an algorithm's token."""
    seen = dict(zip(SMUGGLED, sent(attack, [text for text, _ in SMUGGLED.values()]), strict=True))
    assert {name: status for name, status in seen.items() if status not in SMUGGLED[name][1]} == {}


def test_twisted_paths(attack):
    """Every way around the API's paths ends at the proxy, or at the server's API."""
    seen = dict(zip(TWISTED, sent(attack, [text for text, _ in TWISTED.values()]), strict=True))
    assert seen == {name: status for name, (_, status) in TWISTED.items()}


def test_only_tokens_of_algorithms_pass(attack, researcher, world):
    """Without a token, with one that is none, with a user's and with the node's own: the proxy refuses, whoever the server would let in."""
    user = researcher.client.token
    login = researcher.client.request("token/node", method="post", json={"api_key": world.api_key()})
    tokens = {"none": None, "garbage": "a.b.c", "a user's": user, "the node's": login["access_token"]}
    texts = [
        request("GET /organization HTTP/1.1", *([f"Authorization: Bearer {token}"] if token else [])) for token in tokens.values()
    ]
    answers = attack("attack", kind="raw", address=PROXY, texts=texts)
    assert dict(zip(tokens, statuses(answers), strict=True)).items() <= {
        (name, status) for name in tokens for status in (401, 403)
    }, answers
    for answer in answers:
        assert "msg" in json.loads(answer.split("\r\n\r\n", 1)[1]), answer
