"""A Ray cluster of several nodes on this machine: ``python ray_nodes.py COUNT``.

Each node has one virtual GPU. Prints the cluster's address; for each line on its input all actors that the
cluster has seen, as JSON; ends with its input. A process of its own, so that Ray's state and warnings are not
those of the tests.
"""

from __future__ import annotations

import json
import sys

import ray
from ray.cluster_utils import Cluster

SIZE = {"num_cpus": 2, "num_gpus": 1, "object_store_memory": 150 * 2**20}


def main(count: int) -> None:
    """Serve until the input ends."""
    cluster = Cluster(initialize_head=True, head_node_args=SIZE)
    try:
        for _ in range(count - 1):
            cluster.add_node(**SIZE)
        cluster.wait_for_nodes()
        print(cluster.address, flush=True)
        for _ in sys.stdin:
            print(json.dumps(actors(cluster.address)), flush=True)
    finally:
        cluster.shutdown()


def actors(address: str) -> list[dict[str, str]]:
    """The class of each actor, its node, and that of the process that made it; dead ones too."""
    ray.init(address=address, log_to_driver=False)
    try:
        found = ray._private.state.actors().values()
    finally:
        ray.shutdown()
    return [
        {
            "name": actor["ActorClassName"],
            "node": actor["Address"]["NodeID"],
            "owner": actor["OwnerAddress"]["NodeID"],
        }
        for actor in found
    ]


if __name__ == "__main__":
    main(int(sys.argv[1]))
