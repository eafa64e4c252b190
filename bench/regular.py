"""make bench-regular: the regular vantage6 node 4.5.5 with Docker, measured on this machine as bench.py measures Sextant."""

import contextlib
import shutil
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests" / "e2e"), str(ROOT / "testbed" / "server")]

from ended import Ended  # noqa: E402
from figures import Series  # noqa: E402
from harness import nodes, regular  # noqa: E402
from harness.wait import until  # noqa: E402
from harness.world import World  # noqa: E402
from v6server import Provision, Server  # noqa: E402


def main() -> None:
    """Measures and prints."""
    with contextlib.ExitStack() as ends:
        directory = Path(tempfile.mkdtemp(prefix="sextant-regular-"))
        ends.callback(shutil.rmtree, directory, ignore_errors=True)
        docker = ends.enter_context(regular.docker(directory))
        server = ends.enter_context(Server.start(directory / "server"))
        world = World(server, Provision.create(server, organizations=1))
        node = regular.Regular(docker, world, 0, directory, databases=[])
        ended = Ended(world)

        began = time.monotonic()
        ends.callback(node.stop)
        node.start()
        node.until_online(world, 0)
        print(f"regular node: start → online {time.monotonic() - began:.2f} s", flush=True)
        time.sleep(5)
        print(f"regular node: memory idle {node.resident_bytes() / 1e6:.0f} MB", flush=True)
        for number, times in ((1, 7), (10, 3)):
            series = Series(f"{number} at once: regular node, task created → finished", "s")
            for _ in range(times):
                began = time.monotonic()
                tasks = [world.researcher.ask(nodes.ODD, "exit", [world.organization()], code=0) for _ in range(number)]
                until("the tasks to finish", lambda: ended.all(tasks), within=180, every=0.01, shows=node.log)
                series.values.append(time.monotonic() - began)
            statuses = {world.researcher.run(task)["status"] for task in tasks}
            assert statuses == {"completed"}, f"{statuses}: {node.log()}"
            print(series, flush=True)


if __name__ == "__main__":
    try:
        main()
    except regular.Unavailable as why:
        sys.exit(f"error: {why}")
