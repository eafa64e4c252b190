"""The researcher of test_blobs.py, with the official client of 4.15.2 and so in a Python of its own. Asks once, and prints the results as
JSON: blob_researcher.py SETTINGS, which are JSON, too."""

import json
import sys
from pathlib import Path

from vantage6.client import UserClient

settings = json.loads(sys.argv[1])
client = UserClient(settings["host"], settings["port"], settings["api_path"], log_level="error")
client.authenticate(settings["username"], settings["password"])
client.setup_encryption(Path(settings["key"]) if settings["key"] else None)
task = client.task.create(
    collaboration=settings["collaboration"],
    organizations=settings["organizations"],
    name="a question",
    description="",
    image=settings["image"],
    input_=settings["input"],
    databases=[{"label": "default"}],
)
if "id" not in task:
    sys.exit(f"the server did not take the task: {task}")
results = client.wait_for_results(task["id"], interval=1)
runs = client.run.from_task(task["id"])["data"]
told = [{key: run.get(key) for key in ("status", "log", "blob_storage_used")} for run in runs]
print(json.dumps({"results": [each["result"] for each in results["data"]], "runs": told}))
