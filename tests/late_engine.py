"""A double of a GPU's queue: it computes as late as a GPU may, and reuses memory as early as a GPU may."""

from __future__ import annotations

from collections import deque
from contextlib import contextmanager

import torch

from frcnn_cli.roi.levels import mapped


class LateEngine:
    """Nothing is computed before its results are awaited, in the order in which it was started. Afterwards the staged
    pixels are overwritten. `log` has the order of starts and results."""

    batch = 3

    def __init__(self, put=lambda tensor: tensor, get=lambda tensor: tensor):
        """put, get: to the device, and back."""
        self.seconds = 0.0
        self.put, self.get = put, get
        self.staged_buffers = {}
        self.waiting = deque()
        self.log = []
        self.most_waiting = 0

    def staged(self, pixels):
        buffer = pixels.clone()  # page-locked memory
        self.staged_buffers[id(buffer)] = buffer
        return buffer

    def start(self, compute, pixels, to_cpu):
        for one in pixels:
            assert self.staged_buffers.pop(id(one)) is one, "these pixels were not staged, or are used twice"
        started = _Late(self, compute, pixels, to_cpu)
        self.waiting.append(started)
        self.most_waiting = max(self.most_waiting, len(self.waiting))
        self.log.append("start")
        return started

    @contextmanager
    def timed(self):
        yield
        self.seconds += 1e-3


class _Late:
    def __init__(self, engine, compute, pixels, to_cpu):
        self.engine, self.compute, self.pixels, self.to_cpu = engine, compute, pixels, to_cpu

    def results(self):
        assert self.engine.waiting.popleft() is self, "batches are awaited in another order than they were started"
        with torch.inference_mode():
            maps, finite = self.compute(torch.stack([self.engine.put(one) for one in self.pixels]))
        for one in self.pixels:
            one.fill_(float("nan"))
        self.engine.seconds += 1e-3
        self.engine.log.append("results")
        return mapped(self.engine.get, maps) if self.to_cpu else maps, self.engine.get(finite)
