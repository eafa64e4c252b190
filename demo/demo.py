"""Computes the average salary over three organizations that show each other no row: Sextant in a minute.

    demo.py local         three nodes whose algorithms are processes of this machine
    demo.py kubernetes    three nodes whose algorithms are Jobs on a Kubernetes cluster

Both start the real vantage6 server and ask with the official Python client. They stop everything that they start, on Ctrl-C too.
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
    """Runs the demo; exits with an error if the numbers differ."""
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
        show.done("they form a collaboration")

        if cluster:
            show.step("A namespace on the cluster", "for the Jobs, with an account that has rights only there")
            ends.callback(cluster.tear_down)
            cluster.set_up()
            show.done(f"namespace {cluster.jobs_namespace}")

        show.step(
            "Three Sextant nodes",
            "algorithms run as Jobs" if cluster else "algorithms run as processes, without isolation",
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
            show.step("The Jobs on the cluster", "one for each run, with one pod of three containers:")
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
                "The Jobs after the runs",
                "kubectl get jobs -L vantage6.ai/task,vantage6.ai/run,vantage6.ai/organization",
            )
            job_table(show, cluster)

        expected = [average.partial(file, COLUMN) for file in files]
        compare(show, parts, expected)
        central(show, world, average.overall(expected))
        show.step("Cleaning up", "nodes, server" + (", namespaces" if cluster else "") + " and files are removed")
        if cluster:
            forget_runs(cluster)
    show.done("nothing is left")


def forget_runs(cluster: Cluster) -> None:
    """Removes the runs' Jobs and pods while the view still watches them; otherwise Kubernetes removes them after an hour."""
    batch, namespace = cluster.batch, cluster.jobs_namespace
    batch.delete_collection_namespaced_job(namespace, label_selector=RUNS, propagation_policy="Foreground")
    until("the runs' Jobs to go", lambda: not batch.list_namespaced_job(namespace, label_selector=RUNS).items, within=60)


def ask(show: Show, world: World, method: str, organizations: list[int]) -> tuple[float, int]:
    """Shows the call and makes it. Returns the time and the task."""
    show.code(
        "client.task.create(",
        f"    organizations={organizations}, image={nodes.AVERAGE!r},",
        f"    input_={{'method': {method!r}, 'kwargs': {{'column_name': {COLUMN!r}}}}},",
        "    databases=[{'label': 'default'}])",
    )
    return time.monotonic(), world.researcher.ask(nodes.AVERAGE, method, organizations, databases=["default"], column_name=COLUMN)


def watch(show: Show, world: World, task: int) -> None:
    """Prints each change of a run's status until all runs have ended."""
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
    """Asks one organization for the overall average: its algorithm creates the subtasks, through the proxy."""
    show.step("The same in one question", "the algorithm itself asks the three, through the proxy:")
    began, task = ask(show, world, "central_average", world.organizations[:1])
    found = world.researcher.result(task)["average"]
    show.row("average", f"{found:,.2f}", f"{expected:,.2f}")
    if abs(found - expected) > 1e-6:
        sys.exit("The numbers differ. This is a bug: please report it.")
    show.done(f"the same number after {time.monotonic() - began:.1f} s, from four runs")


def job_table(show: Show, cluster: Cluster) -> None:
    """Lists the Jobs with the labels of their runs, as kubectl does."""
    labels = ["vantage6.ai/task", "vantage6.ai/run", "vantage6.ai/organization"]
    show.line(f"{'NAME':28} {'STATUS':10} " + " ".join(f"{each.split('/')[1].upper():12}" for each in labels))
    for job in cluster.jobs():
        if labels[0] in job.metadata.labels:
            status = "Complete" if job.status.succeeded else "Running"
            show.line(
                f"{job.metadata.name:28} {status:10} " + " ".join(f"{job.metadata.labels[each]:12}" for each in labels)
            )


def compare(show: Show, parts: list[dict], expected: list[dict]) -> None:
    """Shows the results next to the values computed directly from the files."""
    show.step("The answer", "left: from the nodes; right: computed directly from the files")
    show.row("", "by Sextant", "from the files")
    for name, part, file in zip(ORGANIZATIONS, parts, expected, strict=True):
        show.row(name, f"{part['sum']:,.0f} / {part['count']}", f"{file['sum']:,.0f} / {file['count']}")
    ours, theirs = average.overall(parts), average.overall(expected)
    show.row("average", f"{ours:,.2f}", f"{theirs:,.2f}")
    if abs(ours - theirs) > 1e-6:
        sys.exit("The numbers differ. This is a bug: please report it.")
    show.done("the same, and no row has left its organization")


if __name__ == "__main__":
    # SIGTERM unwinds like Ctrl-C, so that nothing keeps running.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        main(sys.argv[1])
    except KeyboardInterrupt:
        print("\ninterrupted; everything is stopped", file=sys.stderr)
        sys.exit(130)
