"""A source that counts its calls, for tests; on an image whose name says so, it crashes or hangs."""

import os
import time
from dataclasses import dataclass

import numpy as np

from frcnn_cli.proposals.hook import Image, Proposals, ProposalSource, option


@dataclass(frozen=True)
class Counted(ProposalSource):
    """One box per image, after a moment."""

    name = "counted"
    version = "1"

    log: str = option("", help="A file to which the key of every image is appended.")
    seconds: float = option(0.0, help="How long each image takes.")

    def propose(self, image: Image) -> Proposals:
        with open(self.log, "a") as log:
            log.write(f"{image.key}\n")
        if "crash" in image.key:
            os._exit(9)
        time.sleep(60 if "hang" in image.key else self.seconds)
        return Proposals(np.array([[1, 2, 30, 40 + image.pixels[0, 0, 0] / 16]], np.float32))
