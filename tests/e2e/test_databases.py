"""Where an organization's data can be, and what of it an algorithm sees."""

import pytest

from harness import average
from harness.nodes import AVERAGE
from harness.wait import until

pytestmark = [pytest.mark.cluster, pytest.mark.versions]

FILE = "employees.csv"


@pytest.fixture
def csv_file():
    return average.employee_files()[0]


@pytest.fixture
def config_map(cluster, csv_file):
    """The employees as a ConfigMap in the jobs' namespace."""
    meta = {"name": "employees", "namespace": cluster.jobs_namespace}
    cluster.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {FILE: csv_file.read_text()}})
    yield {"configMap": {"name": "employees"}}
    cluster.core.delete_namespaced_config_map("employees", cluster.jobs_namespace)


@pytest.fixture
def secret(cluster, csv_file):
    """The employees as a Secret."""
    meta = {"name": "employees", "namespace": cluster.jobs_namespace}
    cluster.create({"apiVersion": "v1", "kind": "Secret", "metadata": meta, "stringData": {FILE: csv_file.read_text()}})
    yield {"secret": {"secretName": "employees"}}
    cluster.core.delete_namespaced_secret("employees", cluster.jobs_namespace)


@pytest.fixture
def claim(cluster, csv_file):
    """A PersistentVolumeClaim, bound to a PersistentVolume of the folder with the example data."""
    name = f"employees-{cluster.jobs_namespace}"
    size = {"storage": "1Mi"}
    access = {"accessModes": ["ReadOnlyMany"], "storageClassName": ""}
    meta = {"name": "employees", "namespace": cluster.jobs_namespace}
    wanted = access | {"volumeName": name, "resources": {"requests": size}}
    cluster.create({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": meta, "spec": wanted})
    volume = access | {"capacity": size, "hostPath": {"path": str(csv_file.parent)}, "claimRef": meta}
    cluster.create({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": volume})
    claim = cluster.core.read_namespaced_persistent_volume_claim
    # Two objects that name each other are bound at the controller's next round, which may take a quarter of a minute.
    until("the claim to be bound", lambda: claim("employees", cluster.jobs_namespace).status.phase == "Bound")
    yield {"persistentVolumeClaim": {"claimName": "employees"}}
    cluster.core.delete_namespaced_persistent_volume_claim("employees", cluster.jobs_namespace)
    cluster.core.delete_persistent_volume(name)


@pytest.mark.parametrize("kind", ["config_map", "secret", "claim"])
def test_a_volume_of_the_cluster(kind, request, kubernetes_node, researcher, world, csv_file):
    """The data as ConfigMap, Secret or PersistentVolumeClaim: no path of a machine, and the same average."""
    volume = request.getfixturevalue(kind)
    path = csv_file.name if kind == "claim" else FILE
    kubernetes_node(
        databases=[{"label": "staff", "uri": FILE, "type": "csv"}],
        kubernetes={"databases": {"staff": volume | {"path": path}}},
    ).start_online()
    task = researcher.ask(AVERAGE, "partial_average", [world.organization()], databases=["staff"], column_name="salary")
    assert researcher.result(task) == pytest.approx(average.partial(csv_file, "salary"))


def test_only_what_was_asked_for_and_read_only(kubernetes_node, researcher, world, csv_file):
    """Of three databases the task names two: those it sees, with their variables; it can't write to files, and the third isn't there."""
    address = "postgresql://reader:geheim@db.example.org:5432/hospital?sslmode=require"
    kubernetes_node(
        databases=[
            {"label": "staff", "uri": str(csv_file), "type": "csv", "env": {"year": 2024, "User": "reader"}},
            {"label": "hospital", "uri": address, "type": "sql"},
            {"label": "secret", "uri": str(average.employee_files()[1]), "type": "csv"},
        ]
    ).start_online()
    task = researcher.ask(
        AVERAGE,
        "database_info",
        [world.organization()],
        databases=[{"label": "staff"}, {"label": "hospital", "query": "SELECT 1"}],
    )
    staff, hospital = researcher.result(task)

    assert staff["label"] == "staff"
    assert staff["is_file"] and not staff["writable"]
    assert staff["bytes"] == csv_file.stat().st_size
    assert staff["variables"]["DATABASE_TYPE"] == "csv"
    assert staff["variables"]["DATABASE_URI"].startswith("/mnt/data/")
    assert staff["variables"]["DB_PARAM_YEAR"] == "2024"
    assert staff["variables"]["DB_PARAM_USER"] == "reader"

    assert hospital["label"] == "hospital"
    assert hospital["variables"]["DATABASE_URI"] == address
    assert hospital["variables"]["DATABASE_TYPE"] == "sql"
    assert hospital["variables"]["QUERY"] == "SELECT 1"

    seen = researcher.result(researcher.ask(AVERAGE, "whoami", [world.organization()], databases=["staff"]))
    assert seen["environment"]["USER_REQUESTED_DATABASE_LABELS"] == "staff"
    assert not [name for name in seen["environment"] if name.startswith(("SECRET_", "HOSPITAL_"))]
    assert not [file for file in seen["data"] if "secret" in file]


def test_a_folder(kubernetes_node, researcher, world, csv_file):
    """A database may be a folder of files."""
    kubernetes_node(databases=[{"label": "scans", "uri": str(csv_file.parent), "type": "folder"}]).start_online()
    task = researcher.ask(AVERAGE, "database_info", [world.organization()], databases=["scans"])
    (scans,) = researcher.result(task)
    assert scans["is_folder"] and not scans["writable"]
    assert csv_file.name in scans["listing"]
