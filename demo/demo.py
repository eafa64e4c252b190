"""The average salary over three organizations that show each other no row: the whole of Sextant in a minute.

    demo.py local         three nodes whose algorithms are processes of this machine
    demo.py kubernetes    three nodes whose algorithms are Jobs on a Kubernetes cluster

Both start the real vantage6 server and ask with the official Python client. Everything they start, they end, on Ctrl-C too.
"""

import contextlib
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests" / "e2e"), str(ROOT / "testbed" / "server")]

from cluster_view import ROLES, RUNS, ClusterView  # noqa: E402
from harness import average, nodes  # noqa: E402
from harness.cluster import Cluster, kubeconfig  # noqa: E402
from harness.node import NodeProcess  # noqa: E402
from harness.wait import until  # noqa: E402
from harness.world import World  # noqa: E402
from show import Show  # noqa: E402
from v6server import Provision, Server  # noqa: E402

ORGANIZATIONS = ["northern-mills", "harbour-works", "hillside-labs"]
COLUMN = "salary"


def main(runtime: str) -> None:
    """Runs the demo; ends with an error if the numbers differ."""
    show = Show()
    with contextlib.ExitStack() as ends:
        directory = Path(tempfile.mkdtemp(prefix="sextant-demo-"))
        ends.callback(shutil.rmtree, directory, ignore_errors=True)
        cluster = None
        if runtime == "kubernetes":
            cluster = Cluster(kubeconfig())

        show.step("A vantage6 server", "the real one, version 4.5.5 from PyPI, with an SQLite database")
        server = ends.enter_context(Server.start(directory / "server"))
        show.done(f"answers at {server.url}")

        show.step("Three organizations", "each with a node, a researcher, and a file that stays where it is")
        world = World(server, Provision.create(server, names=ORGANIZATIONS))
        files = average.employee_files()[:3]
        for name, file in zip(ORGANIZATIONS, files, strict=True):
            show.line(f"{name:16} {file.relative_to(ROOT)}, {average.partial(file, COLUMN)['count']} rows")
        show.done("they collaborate")

        if cluster:
            show.step("A place on the cluster", "a namespace for the Jobs, and an account that may do nothing else")
            ends.callback(cluster.tear_down)
            cluster.set_up()
            show.done(f"namespace {cluster.jobs_namespace}")

        show.step(
            "Three Sextant nodes",
            "algorithms run as Jobs" if cluster else "algorithms run as processes: a first try, no isolation",
        )
        for number, name in enumerate(ORGANIZATIONS):
            place = directory / name
            place.mkdir()
            config = nodes.kubernetes(world, cluster, number, place) if cluster else nodes.local(world, number, place)
            node = NodeProcess(place, config)
            ends.callback(node.stop)
            began = time.monotonic()
            node.start_online()
            show.line(
                f"{name:16} online after {time.monotonic() - began:.2f} s, {node.resident_bytes() / 1e6:.0f} MB of memory"
            )
        show.done("the server sees them")

        if cluster:
            show.step("What is to be seen on the cluster", "one Job a run, with one pod of three containers:")
            for container, role in ROLES.items():
                show.line(f"{container:10} {role}")
            ends.enter_context(ClusterView(cluster, show))
        show.step("The question", "the official client, as in vantage6's documentation:")
        began, task = ask(show, world, "partial_average", world.organizations)
        watch(show, world, task)
        parts = world.researcher.results(task)
        show.done(f"three answers after {time.monotonic() - began:.1f} s")
        if cluster:
            for run in world.researcher.runs(task):
                cluster.until_job_complete(run["id"])
            show.step(
                "What is left on the cluster",
                "kubectl get jobs -L vantage6.ai/task,vantage6.ai/run,vantage6.ai/organization",
            )
            job_table(show, cluster)

        expected = [average.partial(file, COLUMN) for file in files]
        compare(show, parts, expected)
        central(show, world, average.overall(expected))
        show.step("Cleaning up", "nodes, server" + (", namespaces" if cluster else "") + " and files go")
        if cluster:
            forget_runs(cluster)
    show.done("nothing is left")


def forget_runs(cluster: Cluster) -> None:
    """Removes the runs' Jobs and pods, while they are still watched; the nodes would do so an hour later."""
    batch, namespace = cluster.batch, cluster.jobs_namespace
    batch.delete_collection_namespaced_job(namespace, label_selector=RUNS, propagation_policy="Foreground")
    until("the runs' Jobs to go", lambda: not batch.list_namespaced_job(namespace, label_selector=RUNS).items, within=60)


def ask(show: Show, world: World, method: str, organizations: list[int]) -> tuple[float, int]:
    """Shows the call, and makes it; when, and the task."""
    show.code(
        "client.task.create(",
        f"    organizations={organizations}, image={nodes.AVERAGE!r},",
        f"    input_={{'method': {method!r}, 'kwargs': {{'column_name': {COLUMN!r}}}}},",
        "    databases=[{'label': 'default'}])",
    )
    return time.monotonic(), world.researcher.ask(nodes.AVERAGE, method, organizations, databases=["default"], column_name=COLUMN)


def watch(show: Show, world: World, task: int) -> None:
    """Tells each change of a run's status until all have ended."""
    names = dict(zip(world.organizations, ORGANIZATIONS, strict=True))
    told: dict[int, str] = {}

    def all_ended() -> bool:
        runs = world.researcher.runs(task)
        for run in runs:
            if told.get(run["id"]) != run["status"]:
                told[run["id"]] = run["status"]
                show.event(f"{names[run['organization']['id']]:16} run {run['id']}: {run['status']}")
        return all(run["finished_at"] for run in runs)

    until("the three answers", all_ended, within=240, every=0.1)


def central(show: Show, world: World, expected: float) -> None:
    """Asks one organization for the whole: its algorithm makes the subtasks, through the proxy."""
    show.step("The same in one question", "the algorithm itself asks the three, through the proxy:")
    began, task = ask(show, world, "central_average", world.organizations[:1])
    found = world.researcher.result(task)["average"]
    show.row("average", f"{found:,.2f}", f"{expected:,.2f}")
    if abs(found - expected) > 1e-6:
        sys.exit("The numbers differ: this must not happen, please report it.")
    show.done(f"the same number after {time.monotonic() - began:.1f} s, from four runs")


def job_table(show: Show, cluster: Cluster) -> None:
    """The Jobs with the labels that tell whose they are, as kubectl lists them."""
    labels = ["vantage6.ai/task", "vantage6.ai/run", "vantage6.ai/organization"]
    show.line(f"{'NAME':28} {'STATUS':10} " + " ".join(f"{each.split('/')[1].upper():12}" for each in labels))
    for job in cluster.jobs():
        if labels[0] in job.metadata.labels:
            status = "Complete" if job.status.succeeded else "Running"
            show.line(
                f"{job.metadata.name:28} {status:10} " + " ".join(f"{job.metadata.labels[each]:12}" for each in labels)
            )


def compare(show: Show, parts: list[dict], expected: list[dict]) -> None:
    """Shows what came back beside what a csv reader finds in the files."""
    show.step("The answer", "left what came from the nodes, right what a csv reader sums up in the files")
    show.row("", "by Sextant", "from the files")
    for name, part, file in zip(ORGANIZATIONS, parts, expected, strict=True):
        show.row(name, f"{part['sum']:,.0f} / {part['count']}", f"{file['sum']:,.0f} / {file['count']}")
    ours, theirs = average.overall(parts), average.overall(expected)
    show.row("average", f"{ours:,.2f}", f"{theirs:,.2f}")
    if abs(ours - theirs) > 1e-6:
        sys.exit("The numbers differ: this must not happen, please report it.")
    show.done("the same, and no row has left its organization")


if __name__ == "__main__":
    # SIGTERM unwinds like Ctrl-C, so that nothing is left running.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        main(sys.argv[1])
    except KeyboardInterrupt:
        print("\ninterrupted; everything that ran is ended", file=sys.stderr)
        sys.exit(130)
