"""Volumes with an end, made by hand where the cluster makes none: file systems in memory, each for one claim of a StorageClass."""

import subprocess
from pathlib import Path

from kubernetes import client

from .cluster import Cluster


class Rooms:
    """A StorageClass and its volumes on this machine, which is the cluster's."""

    def __init__(self, cluster: Cluster, directory: Path):
        self.cluster = cluster
        self.directory = directory
        self.name = f"rooms-{cluster.tag}"
        self.storage = client.StorageV1Api(cluster.api)
        self.mounted: list[Path] = []
        self.storage.create_storage_class(
            client.V1StorageClass(
                metadata={"name": self.name}, provisioner="kubernetes.io/no-provisioner", volume_binding_mode="WaitForFirstConsumer"
            )
        )

    def add(self, mebibytes: int, inodes: int) -> None:
        """One more, like a disk that has just been formatted: its root's, and nobody else's."""
        place = self.directory / f"room-{len(self.mounted)}"
        place.mkdir()
        options = f"size={mebibytes}m,nr_inodes={inodes},mode=0755"
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, self.name, str(place)], check=True)
        self.mounted.append(place)
        here = {"key": "kubernetes.io/hostname", "operator": "In", "values": [self.cluster.machine()]}
        self.cluster.core.create_persistent_volume(
            {
                "metadata": {"name": f"{self.name}-{len(self.mounted)}"},
                "spec": {
                    "capacity": {"storage": f"{mebibytes}Mi"},
                    "accessModes": ["ReadWriteOnce"],
                    "persistentVolumeReclaimPolicy": "Retain",
                    "storageClassName": self.name,
                    "local": {"path": str(place)},
                    "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [here]}]}},
                },
            }
        )

    def remove(self) -> None:
        """All of it; what still uses one keeps it until it ends."""
        for number, place in enumerate(self.mounted, 1):
            self.cluster.core.delete_persistent_volume(f"{self.name}-{number}")
            subprocess.run(["umount", "--lazy", str(place)], check=True)
        self.storage.delete_storage_class(self.name)
