"""The average of one column over all organizations: sums and counts leave a node, rows never do."""

import pandas as pd
from vantage6.algorithm.client import AlgorithmClient
from vantage6.algorithm.tools.decorators import algorithm_client, data
from vantage6.algorithm.tools.util import info


@data(1)
def partial_average(df: pd.DataFrame, column_name: str) -> dict:
    """The sum and the number of this organization's values in the column; missing ones don't count."""
    values = pd.to_numeric(df[column_name], errors="coerce").dropna()
    return {"sum": float(values.sum()), "count": int(values.count())}


@algorithm_client
def central_average(client: AlgorithmClient, column_name: str, org_ids: list[int] | None = None) -> dict:
    """Asks each organization (all of the collaboration if none are named) for its part, and divides."""
    if not org_ids:
        org_ids = [organization["id"] for organization in client.organization.list()]
    task = client.task.create(
        input_={"method": "partial_average", "kwargs": {"column_name": column_name}},
        organizations=org_ids,
        name="partial average",
        description=f"sum and count of {column_name}",
    )
    info("waiting for the parts")
    parts = client.wait_for_results(task_id=task["id"])
    total = sum(part["sum"] for part in parts)
    count = sum(part["count"] for part in parts)
    return {"average": total / count}
