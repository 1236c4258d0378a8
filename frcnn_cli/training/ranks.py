"""The processes that train together, one per device, on PyTorch's distributed package.

Each process, called a rank, computes some images of every mini-batch; their gradients are summed, so that all ranks
hold the same weights. Only rank 0 writes files and reports progress.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self, TypeVar, cast

import torch
from torch import Tensor, nn

from frcnn_cli.core.errors import FrcnnError, UsageError
from frcnn_cli.system.device import choose_device
from frcnn_cli.system.processes import Started, usable_cores

Value = TypeVar("Value")

# When a rank ends, the others notice within milliseconds. They wait this long to be ended by the process that started
# them, which names the rank that was the first.
_WAIT_FOR_THE_END = 20.0  # seconds


@dataclass(frozen=True)
class Ranks:
    """This process among those that train together. The default is a process that trains alone.

    rank: 0 .. count - 1. local_rank, local_count: the same among the processes on this machine.
    """

    rank: int = 0
    count: int = 1
    local_rank: int = 0
    local_count: int = 1

    @classmethod
    def of(cls, started: Started) -> Self:
        return cls(started.rank, started.count, started.local_rank, started.local_count)

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def part(self, count: int) -> slice:
        """Which of `count` images this rank computes: neighbours, about as many as every other rank."""
        return slice(count * self.rank // self.count, count * (self.rank + 1) // self.count)

    def gathered(self, values: Tensor) -> Tensor:
        """A row of numbers [N] of every rank: [ranks, N], the same on all of them."""
        if self.count == 1:
            return values[None]
        rows = [torch.empty_like(values) for _ in range(self.count)]
        with self._noticing_ends():
            torch.distributed.all_gather(rows, values)
        return torch.stack(rows)

    def any(self, flag: bool) -> bool:
        """Whether the flag is set on any rank."""
        return flag if self.count == 1 else bool(self.gathered(torch.tensor([int(flag)])).any())

    def merged(self, values: dict[str, Any]) -> dict[str, Any]:
        """The entries of all ranks."""
        if self.count == 1:
            return values
        parts: list[dict[str, Any]] = [{} for _ in range(self.count)]
        with self._noticing_ends():
            torch.distributed.all_gather_object(parts, values)
        return {key: value for part in parts for key, value in part.items()}

    def from_first(self, compute: Callable[[], Value]) -> Value:
        """What rank 0 computes, on all ranks."""
        if self.count == 1:
            return compute()
        holder: list[Any] = [compute() if self.is_first else None]
        with self._noticing_ends():
            torch.distributed.broadcast_object_list(holder, src=0)
        return cast(Value, holder[0])

    def network(self, module: nn.Module) -> Callable[..., Any]:
        """The module to call in training: its gradients become the sums over all ranks in `backward`."""
        if self.count == 1:
            return module
        with self._noticing_ends():
            shared = nn.parallel.DistributedDataParallel(module, gradient_as_bucket_view=True)
        shared.register_comm_hook(None, _summed)

        def call(*arguments: Any, **options: Any) -> Any:
            with self._noticing_ends():  # it exchanges buffers
                return shared(*arguments, **options)

        return call

    @contextmanager
    def _noticing_ends(self) -> Iterator[None]:
        """Turns the errors of the network between the ranks into one line."""
        try:
            yield
        except RuntimeError as error:
            if self.count == 1 or not _is_of_the_network(error):
                raise
            time.sleep(_WAIT_FOR_THE_END)
            raise FrcnnError(
                f"rank {self.rank}: another process of this training has ended",
                "Its own message states why; --resume continues from the last checkpoint",
            ) from None

    def backward(self, loss: Tensor) -> None:
        """Computes the gradients, summed over the ranks."""
        with self._noticing_ends():
            loss.backward()  # type: ignore[no-untyped-call]

    def device(self, name: str) -> torch.device:
        """The device of this rank: one GPU each, in order; on a CPU, an equal share of the cores.

        Raises:
            FrcnnError: this machine has fewer GPUs than ranks. UsageError: one GPU is named for several ranks.
        """
        if self.count == 1:
            return choose_device(name)
        if ":" in name:
            raise UsageError(f"{self.count} processes cannot share the device {name}", "Write --device cuda, or cpu")
        if choose_device(name).type == "cpu":
            if "OMP_NUM_THREADS" not in os.environ:
                torch.set_num_threads(max(1, usable_cores() // self.local_count))
            return torch.device("cpu")
        if self.local_count > (available := torch.cuda.device_count()):
            raise FrcnnError(f"this machine has {available} GPUs for {self.local_count} processes", "Start fewer")
        return torch.device("cuda", self.local_rank)


ALONE = Ranks()


def check_ranks(count: int, images: int) -> None:
    """Raises UsageError if there are more ranks than images in a mini-batch."""
    if count > images:
        raise UsageError(
            f"{count} devices cannot share mini-batches of {images} image(s)",
            f"Train on at most {images}, or with a larger --batch-images (in Python: sampling.images)",
        )


@contextmanager
def joined(ranks: Ranks, rendezvous: str = "env://") -> Iterator[Ranks]:
    """Connects this process to the other ranks, for the duration of the block.

    Args:
        rendezvous: how they find each other, as `init_process_group` reads it.
    """
    distributed: Any = torch.distributed
    if not distributed.is_available():
        raise FrcnnError("this build of PyTorch cannot train on several devices", "Install another, or train on one")
    # Objects and counters are exchanged between CPUs; gradients on GPUs, by NCCL.
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() and distributed.is_nccl_available() else "gloo"
    with ranks._noticing_ends():
        distributed.init_process_group(backend, rendezvous, rank=ranks.rank, world_size=ranks.count)
    try:
        yield ranks
    finally:
        distributed.destroy_process_group()


def _summed(state, bucket):  # type: ignore[no-untyped-def]  # PyTorch checks annotations, and knows no strings
    """Sums gradients over the ranks. Without this hook, `DistributedDataParallel` averages them."""
    sums = torch.distributed.all_reduce(bucket.buffer(), async_op=True).get_future()
    return sums.then(lambda done: done.value()[0])


def _is_of_the_network(error: RuntimeError) -> bool:
    named = isinstance(error, torch.distributed.DistError)
    return named or any(word in str(error) for word in ("gloo", "Connection", "NCCL", "Broken pipe", "Socket"))
