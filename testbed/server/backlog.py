#!/usr/bin/env python3
"""Puts open runs into a server's database, by the server's own models: ten thousand requests for tasks would take half an hour.

    backlog.py DIRECTORY --runs N --image IMAGE --collaboration ID --organization ID --user ID [--input-bytes 1024]

The directory is that of v6server.py; the server may be running. Needs the server's Python (testbed/server/venv).
"""

import argparse
import base64
import os

from sqlalchemy import create_engine
from sqlalchemy.orm import Session
from vantage6.server.model import Run, Task


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("directory")
    for name in ("runs", "collaboration", "organization", "user"):
        arguments.add_argument(f"--{name}", type=int, required=True)
    arguments.add_argument("--image", required=True)
    arguments.add_argument("--input-bytes", type=int, default=1024)
    options = arguments.parse_args()
    text = base64.b64encode(os.urandom(options.input_bytes)).decode()
    with Session(create_engine(f"sqlite:///{options.directory}/db.sqlite")) as session:
        for number in range(1, options.runs + 1):
            task = Task(
                name=f"task {number} of a backlog",
                description="",
                image=options.image,
                job_id=number,
                collaboration_id=options.collaboration,
                init_org_id=options.organization,
                init_user_id=options.user,
            )
            task.runs.append(Run(input=text, organization_id=options.organization, status="pending"))
            session.add(task)
        session.commit()


main()
