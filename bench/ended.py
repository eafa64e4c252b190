"""When runs end: read from the server's database, which costs the server nothing, where asking it would slow what is measured."""

import sqlite3

from harness.world import World


class Ended:
    """Looks into the database of a server on this machine."""

    def __init__(self, world: World):
        self._database = sqlite3.connect(f"file:{world.server.directory}/db.sqlite?mode=ro", uri=True)

    def all(self, tasks: list[int]) -> bool:
        """Whether the server has the reports of all these tasks' runs."""
        marks = ",".join("?" * len(tasks))
        query = f"SELECT count(*) FROM run WHERE finished_at IS NOT NULL AND task_id IN ({marks})"
        return self._database.execute(query, tasks).fetchone()[0] == len(tasks)
