"""`propose_images` in a process of its own, which a test can kill: ADDRESS IMAGES OUTPUT LOG SECONDS [TIMEOUT]."""

import json
import sys

from frcnn_cli.proposals.run import propose_images
from frcnn_cli.system.cluster import Cluster
from tests.proposals.counted import Counted

if __name__ == "__main__":
    address, images, output, log, seconds, *timeout = sys.argv[1:]
    cluster = (
        None if address == "none" else Cluster(address.removesuffix("+send"), send_images=address.endswith("+send"))
    )
    done = propose_images(
        images, output, Counted(log=log, seconds=float(seconds)), cluster=cluster, workers=None if cluster else 0,
        timeout=float(timeout[0]) if timeout else None,
    )  # fmt: skip
    print(json.dumps({key: str(error) for key, error in done.failed.items()}))
