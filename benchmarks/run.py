"""The whole path against torchvision's parts, in one run on the same input: pooling, detection, training, files.

    python benchmarks/run.py DATA [--only pooling,detection,rcnn,training,cached,memory,files,start] [--quick]

DATA holds bccd/, proposals/000004.jpg and weights/squeezenet1_0_tv.pth. Both sides take turns; figures are medians.
"Limit" is the best that the machine can do: bytes moved at the bandwidth of a plain copy, or multiplications at the
rate of a large matrix product, both measured in the same run; "share" is the fraction of it that we reach.

The peer is what a user would build: torchvision's conv layers, its `roi_pool` or `roi_align`, two fully connected
layers, and the NMS of its `RoIHeads`. If there is a GPU, everything runs on it.
"""

from __future__ import annotations

import argparse
import atexit
import copy
import multiprocessing
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.ops import roi_align as tv_align
from torchvision.ops import roi_pool as tv_pool

from frcnn_cli import __version__, read_image
from frcnn_cli.core.decoding import read_ref
from frcnn_cli.core.image import Image, ImageRecord
from frcnn_cli.data.load import load_dataset
from frcnn_cli.detections.nms import detections_from_scores
from frcnn_cli.detector.compression import Compressor, random_image
from frcnn_cli.detector.config import NO_PROPOSALS, ModelConfig
from frcnn_cli.detector.detector import Detector
from frcnn_cli.features.backbones import build
from frcnn_cli.features.transform import IMAGENET_MEAN, IMAGENET_STD, ImageTransform
from frcnn_cli.proposals.propose import propose
from frcnn_cli.proposals.sources.selective_search import SelectiveSearch
from frcnn_cli.recipes.recipe import Recipe
from frcnn_cli.recipes.sections import Network, Sampling, Solver
from frcnn_cli.roi.pooler import RoIPooler
from frcnn_cli.roi.pooling import roi_align, roi_max_pool
from frcnn_cli.roi.rois import RoIs
from frcnn_cli.system.memory import keep_freed_memory

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
REPEATS = 5
IMAGES = 12  # of BCCD, to train on


class InItsOwnProcess:
    """The peer as a user has it: in a process of its own, with PyTorch's defaults, where ours keeps freed memory as
    our commands do. Waits idle between calls."""

    def __init__(self, make: Callable[..., Callable[[], object]], *arguments: Any) -> None:
        """`make(*arguments)` is called there, and what it returns is what will be timed."""
        context = multiprocessing.get_context("spawn")
        self._pipe, there = context.Pipe()
        self._process = context.Process(target=_serve, args=(there, make, arguments), daemon=True)
        self._process.start()
        there.close()

    def seconds(self) -> float:
        self._pipe.send(True)
        return float(self._pipe.recv())

    def close(self) -> None:
        self._pipe.close()
        self._process.join()


def _serve(pipe: Any, make: Callable[..., Callable[[], object]], arguments: tuple[Any, ...]) -> None:
    call = make(*arguments)
    try:
        while pipe.recv():
            pipe.send(timed(call))
    except EOFError:
        pass


def timed(call: Callable[[], object] | InItsOwnProcess) -> float:
    if isinstance(call, InItsOwnProcess):
        return call.seconds()
    # On a GPU several calls in a row, so that the next is launched while one runs, as in a real pass over images.
    times = 10 if DEVICE.type == "cuda" else 1
    began = time.perf_counter()
    for _ in range(times):
        call()
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - began) / times


def seconds(*calls: Callable[[], object] | InItsOwnProcess, repeats: int | None = None) -> list[float]:
    """The median time of each call; they take turns, so that a slow moment of the machine strikes all."""
    taken: list[list[float]] = [[] for _ in calls]
    for round_ in range(1 + (repeats or REPEATS)):
        for call, times in zip(calls, taken, strict=True):
            once = timed(call)
            if round_:  # the first warms up
                times.append(once)
    return [statistics.median(times) for times in taken]


@dataclass
class Row:
    what: str
    ours: float
    peer: float | None = None
    limit: float | None = None
    unit: str = "ms"

    def __str__(self) -> str:
        def figure(value: float | None) -> str:
            return "" if value is None else f"{value:.3g}" if value < 1000 else f"{value:.0f}"

        faster = self.unit == "images/s"
        ratio = share = None
        if self.peer is not None:
            ratio = self.ours / self.peer if faster else self.peer / self.ours
        if self.limit is not None:
            share = self.ours / self.limit if faster else self.limit / self.ours
        return (
            f"| {self.what} | {figure(self.ours)} {self.unit} | {figure(self.peer)} |"
            f" {'' if ratio is None else f'{ratio:.2f} x'} | {figure(self.limit)} |"
            f" {'' if share is None else f'{share:.0%}'} |"
        )


class Machine:
    """What it can do at best, measured once."""

    def __init__(self) -> None:
        source, target = torch.ones(2, 50_000_000, device=DEVICE)
        [copied] = seconds(lambda: target.copy_(source))
        self.bandwidth = 2 * source.nbytes / copied  # bytes a second, read and written
        self.rates = {}
        for dtype in (torch.float32, torch.bfloat16):
            # As a 1x1 convolution, which oneDNN does: PyTorch's own product of float32 is MKL's, half as fast on AMD.
            x = torch.rand(1, 3072, 3072, 1, device=DEVICE).to(dtype, memory_format=torch.channels_last)
            weight = torch.rand(3072, 3072, 1, 1, device=DEVICE).to(dtype)
            with torch.inference_mode():
                [multiplied] = seconds(partial(F.conv2d, x, weight))
            self.rates[dtype] = 3072**3 / multiplied  # multiplications a second

    def __str__(self) -> str:
        return (
            f"copies {self.bandwidth / 1e9:.0f} GB/s (read and written), multiplies"
            f" {self.rates[torch.float32] / 1e9:.0f} billion/s in float32,"
            f" {self.rates[torch.bfloat16] / 1e9:.0f} in bfloat16"
        )


def photograph(data: Path) -> tuple[Image, np.ndarray]:
    """The photograph, stretched to 600 x 800, and 2,000 boxes of selective search."""
    import cv2

    pixels = cv2.resize(read_image(data / "proposals" / "000004.jpg").pixels, (800, 600))
    image = Image(pixels, ImageRecord("000004", 600, 800, "0" * 32))
    return image, propose(image, SelectiveSearch(preset="quality")).boxes


def pooling(data: Path, machine: Machine) -> Iterator[Row]:
    """The operators, on a map of VGG16's size."""
    _, boxes = photograph(data)
    moved = 4 * len(boxes) * 49 * 512
    for what, options in {"RoI max pooling": (), "RoI align, aligned, 2 samples": (2, True)}.items():
        our_pool, their_pool = (roi_align, tv_align) if options else (roi_max_pool, tv_pool)
        map_bytes = 4 * 512 * 38 * 50
        for gradient in (False, True):
            peer = InItsOwnProcess(one_pooling, their_pool, boxes, options, torch.contiguous_format, gradient)
            own = one_pooling(our_pool, boxes, options, torch.channels_last, gradient)
            ours, theirs = seconds(own, peer)
            peer.close()
            winners = moved // 2 if gradient and not options else 0  # 16 bits each
            limit = (moved + winners + map_bytes) / machine.bandwidth
            name = f"{what}, {len(boxes)} RoIs{', gradient' if gradient else ''}"
            yield Row(name, 1000 * ours, 1000 * theirs, 1000 * limit)


def one_pooling(
    pool: Callable[..., Tensor],
    boxes: np.ndarray,
    options: tuple[Any, ...],
    layout: torch.memory_format,
    gradient: bool,
) -> Callable[[], object]:
    """Pooling, or its gradient alone, with maps and gradients in the memory order that suits it."""
    torch.manual_seed(0)
    maps = torch.rand(1, 512, 38, 50, device=DEVICE).contiguous(memory_format=layout)
    windows = RoIPooler("max", (7, 7), (16,)).windows(RoIs.of_images([boxes], [1.0])).corners
    arguments = (windows.to(DEVICE), 7, 1 / 16, *options)
    if not gradient:
        return lambda: pool(maps, *arguments)
    maps.requires_grad_()
    pooled = pool(maps, *arguments)
    slopes = torch.rand(pooled.shape, device=DEVICE).contiguous(memory_format=layout)
    return partial(_back, maps, pooled, slopes)


def _back(leaf: Tensor, pooled: Tensor, slopes: Tensor) -> None:
    leaf.grad = None
    pooled.backward(slopes, retain_graph=True)


class Peer(nn.Module):
    """Fast R-CNN put together from torchvision's parts; from the same weights as a backbone of ours."""

    def __init__(self, name: str, classes: int) -> None:
        super().__init__()
        self.backbone = build(name)
        self.conv, self.fc6, self.fc7 = self.backbone.conv, *self.backbone.hidden
        self.cls_score = nn.Linear(self.fc7.out_features, classes + 1)
        self.bbox_pred = nn.Linear(self.fc7.out_features, 4 * (classes + 1))
        nothing: Any = nn.Identity()
        self.after = RoIHeads(nothing, nothing, nothing, 0.5, 0.5, 64, 0.25, (1.0, 1.0, 1.0, 1.0), 0.05, 0.3, 100)

    def head(self, features: Tensor, rois: Tensor) -> tuple[Tensor, Tensor]:
        x = tv_pool(features, rois, self.backbone.grid, 1 / self.backbone.stride).flatten(1)
        x = F.dropout(F.relu(self.fc6(x)), training=self.training)
        x = F.dropout(F.relu(self.fc7(x)), training=self.training)
        return self.cls_score(x), self.bbox_pred(x)

    @torch.inference_mode()
    def detect(self, image: Image, boxes: Tensor, short_side: int = 600) -> Any:
        scale = short_side / min(image.height, image.width)
        pixels = torch.tensor(image.pixels, device=DEVICE).permute(2, 0, 1)[None] / 255
        mean, std = (torch.tensor(v, device=DEVICE).view(1, 3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
        pixels = F.interpolate((pixels - mean) / std, scale_factor=scale, mode="bilinear")
        rois = torch.cat([torch.zeros(len(boxes), 1, device=DEVICE), boxes * scale], 1)
        logits, deltas = self.head(self.conv(pixels), rois)
        return self.after.postprocess_detections(logits, deltas, [boxes], [(image.height, image.width)])


def peer_detection(name: str, classes: int, image: Image, boxes: np.ndarray) -> Callable[[], object]:
    peer = Peer(name, classes).eval().to(DEVICE)
    given = torch.tensor(boxes, device=DEVICE)
    return lambda: peer.detect(image, given)


def our_detector(name: str, classes: int) -> Detector:
    torch.manual_seed(0)
    config = ModelConfig(Network(name), tuple(f"class {i}" for i in range(classes)), ImageTransform(), NO_PROPOSALS)
    made = Detector(config, build(name)).eval()
    return made.to(DEVICE, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def detected(detector: Detector, image: Image, boxes: np.ndarray) -> Any:
    features, scale = detector.feature_map(image)
    return detections_from_scores(*detector.score(features, boxes, scale, image.height, image.width))


def detection(data: Path, machine: Machine) -> Iterator[Row]:
    """Image to boxes, proposals given."""
    sample = load_dataset(f"voc:{data / 'bccd'}", "test", "fix").samples[0]
    cells = read_image(sample.ref.path)
    scenes = {
        "VGG16, 600 x 800": ("vgg16", 20, *photograph(data)),
        "SqueezeNet 1.0, BCCD": ("squeezenet1_0", 3, cells, propose(cells, SelectiveSearch(preset="quality")).boxes),
    }
    for what, (name, classes, image, boxes) in scenes.items():
        ours = our_detector(name, classes)
        peer = InItsOwnProcess(peer_detection, name, classes, image, boxes)
        full = ours.head.widths()
        ranks = {"fc6": full[0] // 4, "fc7": full[1] // 16}  # the paper's: 1024 and 256 of 4096
        compressor = Compressor(ours)
        small = compressor.compressed(ranks)
        variants = {
            "float32": ours,
            "bfloat16": copy.deepcopy(ours).to_precision("bfloat16"),
            f"SVD {ranks['fc6']}, {ranks['fc7']}, float32": small,
            f"SVD {ranks['fc6']}, {ranks['fc7']}, bfloat16": copy.deepcopy(small).to_precision("bfloat16"),
        }
        calls = [partial(detected, detector, image, boxes) for detector in variants.values()]
        *taken, theirs = seconds(*calls, peer, repeats=3)
        peer.close()
        for (kind, detector), own in zip(variants.items(), taken, strict=True):
            rate = machine.rates[torch.bfloat16 if "bfloat16" in kind else torch.float32]
            limit = multiplications(detector, image, len(boxes)) / rate
            yield Row(f"image to boxes, {what}, {len(boxes)} RoIs: {kind}", 1000 * own, 1000 * theirs, 1000 * limit)


def multiplications(detector: Detector, image: Image, rois: int) -> float:
    """Of conv layers and hidden layers, none left out."""
    counted = 0

    def count(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal counted
        if isinstance(layer, nn.Conv2d):
            counted += output.numel() * layer.weight[0].numel()

    hooks = [layer.register_forward_hook(count) for layer in detector.conv]
    hooks += [
        layer.register_forward_hook(count) for layer in detector.conv.modules() if layer not in set(detector.conv)
    ]
    detector.feature_map(image)
    for hook in hooks:
        hook.remove()
    hidden = (*detector.head.fc6.modules(), *detector.head.fc7.modules())
    return counted + rois * sum(layer.weight.numel() for layer in hidden if isinstance(layer, nn.Linear))


def rcnn(data: Path, machine: Machine) -> Iterator[Row]:
    """R-CNN itself: each RoI cropped, warped and put through the whole network; 50 of them timed."""
    from torchvision import models
    from torchvision.transforms.functional import resized_crop

    image, boxes = photograph(data)
    ours = our_detector("vgg16", 20)
    small = Compressor(ours).compressed({"fc6": 1024, "fc7": 256})
    whole = models.vgg16(weights=None).eval().to(DEVICE)
    pixels = torch.tensor(image.pixels, device=DEVICE).permute(2, 0, 1) / 255
    some = boxes[:: max(1, len(boxes) // 50)][:50]

    @torch.inference_mode()
    def crops() -> None:
        for x1, y1, x2, y2 in some.round().astype(int).tolist():
            whole(resized_crop(pixels, y1, x1, y2 - y1, x2 - x1, [224, 224], antialias=False)[None])

    of_crops, of_ours, of_small = seconds(
        crops, lambda: detected(ours, image, boxes), lambda: detected(small, image, boxes), repeats=1
    )
    theirs = of_crops * len(boxes) / len(some)
    yield Row(f"image to boxes, VGG16, {len(boxes)} RoIs against R-CNN (paper: 146 x)", 1000 * of_ours, 1000 * theirs)
    yield Row("the same with SVD (paper: 213 x)", 1000 * of_small, 1000 * theirs)


def training(data: Path, machine: Machine) -> Iterator[Row]:
    """Steps of SGD on BCCD, both sides at the same images and RoIs a step."""
    for images, rois in ((1, 128), (2, 128))[:REPEATS]:
        steps = trainer(data, "squeezenet1_0", images, rois).run()
        peer = InItsOwnProcess(peer_training, data, images, rois)
        ours, theirs = seconds(lambda s=steps: next(s), peer, repeats=3 * REPEATS)  # type: ignore[misc]
        peer.close()
        what = f"training, SqueezeNet 1.0, BCCD, {images} image(s) and {rois} RoIs a step"
        yield Row(what, images / ours, images / theirs, unit="images/s")


def peer_training(data: Path, images: int, rois: int) -> Callable[[], object]:
    """The same batches as ours; their making is on threads, as ours is."""
    batches = trainer(data, "squeezenet1_0", images, rois).batches.iterate(0, 1_000_000)
    peer = Peer("squeezenet1_0", 3).train().to(DEVICE)
    peer.conv[: peer.backbone.frozen].requires_grad_(False)
    trained = [p for p in peer.parameters() if p.requires_grad]
    pooler = RoIPooler("max", peer.backbone.grid, (peer.backbone.stride,))
    optimiser = torch.optim.SGD(trained, lr=1e-4, momentum=0.9, weight_decay=5e-4)

    def step() -> None:
        batch = next(batches)
        labels, targets = batch.labels.to(DEVICE), batch.targets.to(DEVICE)
        windows = pooler.windows(batch.rois).corners
        logits, deltas = peer.head(peer.conv(batch.images.contiguous().to(DEVICE)), windows.to(DEVICE))
        chosen = torch.nonzero(labels > 0).flatten()
        own = deltas.reshape(len(labels), -1, 4)[chosen, labels[chosen]]
        loss = F.cross_entropy(logits, labels)
        loss = loss + F.smooth_l1_loss(own, targets[chosen], reduction="sum") / len(labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    return step


def trainer(data: Path, name: str, images: int, rois: int, maps: Path | None = None) -> Any:
    """A run of ours, on the real images, each with boxes of selective search."""
    from frcnn_cli.data.pairing import ProposedSample
    from frcnn_cli.store.reader import StageFile
    from frcnn_cli.store.schema import FEATURES
    from frcnn_cli.training.inputs import CachedMaps, DecodedImages
    from frcnn_cli.training.trainer import Trainer
    from frcnn_cli.training.training_set import TrainingSet

    dataset = load_dataset(f"voc:{data / 'bccd'}", "trainval", "fix")
    samples = dataset.samples[:IMAGES]
    found = [
        ProposedSample(sample.ref, sample.truth, propose(read_image(sample.ref.path), SelectiveSearch()).boxes)
        for sample in samples
    ]
    recipe = Recipe(
        Network(name),
        sampling=Sampling(images, rois, background_iou=(0.0, 0.5)),
        solver=Solver(epochs=1000.0, learning_rate=1e-4),
    )
    inputs: Any = DecodedImages(read_ref, ImageTransform())
    if maps is not None:
        file = StageFile(maps, FEATURES)
        inputs = CachedMaps(file, {Path(key).stem: row for key, row in file.index.items()})
    temporary = tempfile.TemporaryDirectory(prefix="frcnn-benchmark-")
    atexit.register(temporary.cleanup)
    folder = Path(temporary.name)
    training_set = TrainingSet(found, dataset.classes, NO_PROPOSALS, inputs, "")
    run = Trainer.begin(folder, training_set, recipe, weights_of(data, name), {}, DEVICE)
    if maps is None:  # also where the weights are random, which are trained from the first layer on otherwise
        frozen = build(name).frozen
        run.state = replace(run.state, frozen=frozen)
        run.detector.conv[:frozen].requires_grad_(False)
    return run


def weights_of(data: Path, name: str) -> str:
    return str(data / "weights" / "squeezenet1_0_tv.pth") if name == "squeezenet1_0" else "none"


def cached(data: Path, machine: Machine) -> Iterator[Row]:
    """Training the head from cached maps against training end to end, both ours."""
    for name in ("squeezenet1_0", "vgg16"):
        with tempfile.TemporaryDirectory() as folder:
            maps, images = Path(folder) / "feats.h5", Path(folder) / "images"
            images.mkdir()
            for sample in load_dataset(f"voc:{data / 'bccd'}", "trainval", "fix").samples[:IMAGES]:
                (images / sample.ref.path.name).symlink_to(sample.ref.path.resolve())
            line = ["features", str(images), "--backbone", name, "--weights", weights_of(data, name), "--mirrored"]
            subprocess.run([sys.executable, "-m", "frcnn_cli", *line, "-q", "-o", str(maps)], check=True)
            whole, head = trainer(data, name, 2, 128), trainer(data, name, 2, 128, maps)
            ours, theirs = seconds(*(lambda s=run.run(): next(s) for run in (head, whole)))  # type: ignore[misc]
        what = f"training the head from cached maps, {name}; peer: our own end-to-end training"
        yield Row(what, 2 / ours, 2 / theirs, unit="images/s")


def files(data: Path, machine: Machine) -> Iterator[Row]:
    """Conv maps to disk, against numpy.save; and what compression would bring, on real maps."""
    import os

    import h5py

    from frcnn_cli.features.columns import to_columns
    from frcnn_cli.store.schema import FEATURES
    from frcnn_cli.store.writer import StageWriter

    recipe = Recipe(network=Network("squeezenet1_0"))
    detector = Detector.untrained(recipe, weights_of(data, "squeezenet1_0"))
    samples = load_dataset(f"voc:{data / 'bccd'}", "test", "fix").samples[:8]
    columns = [to_columns(*detector.feature_map(read_image(sample.ref.path))) for sample in samples]
    count = 20 * REPEATS
    maps = np.concatenate([columns[i % len(columns)]["maps"] for i in range(count)])
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        path = Path(folder) / "out"

        def plain() -> None:
            with open(path, "wb") as file:
                np.save(file, maps)
                file.flush()
                os.fsync(file.fileno())

        def staged() -> None:
            with StageWriter(path, FEATURES, {"features_id": "", "dtype": "float16"}, force=True) as out:
                for i in range(count):
                    out.add(ImageRecord(f"{i:06d}", 480, 640, "0" * 32), columns[i % len(columns)])
                out.finish()

        def packed(**options: Any) -> None:
            with h5py.File(path, "w") as file:
                file.create_dataset("maps", data=columns[0]["maps"], chunks=(256, maps.shape[1]), **options)

        ours, theirs = seconds(staged, plain)
        yield Row(f"{maps.nbytes / 1e6:.0f} MB of conv maps to disk; peer: numpy.save", 1000 * ours, 1000 * theirs)
        whole = columns[0]["maps"].nbytes
        for name, options in {
            "lzf": {"compression": "lzf"},
            "gzip 1": {"compression": "gzip", "compression_opts": 1},
        }.items():
            for shuffle in (False, True):
                [taken] = seconds(partial(packed, shuffle=shuffle, **options))
                size = path.stat().st_size / whole
                what = f"{name}, shuffled" if shuffle else name
                print(f"compression {what}: {size:.0%} of the size, {whole / taken / 1e6:.0f} MB/s", file=sys.stderr)


def memory(data: Path, machine: Machine) -> Iterator[Row]:
    """How far chunks of RoIs bound the memory, in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        taken, resident = pool.apply(many_rois, (20_000,))
    yield Row("20,000 RoIs through VGG16's head, conv map given", 1000 * taken)
    yield Row("the most memory that this process had", resident / 1e9, unit="GB")


def many_rois(count: int) -> tuple[float, float]:
    """Seconds, and bytes resident at most."""
    import resource

    keep_freed_memory()
    detector = our_detector("vgg16", 20)
    scene = random_image(detector, count)
    began = time.perf_counter()
    detector.score(scene.maps, scene.boxes, scene.scales, scene.height, scene.width)
    taken = time.perf_counter() - began
    return taken, 1024.0 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def start(data: Path, machine: Machine) -> Iterator[Row]:
    """The time until a command has done its work, on one small image."""
    yield from help_and_version()
    yield from one_image(data)


def one_image(data: Path) -> Iterator[Row]:
    """Processor time of whole commands, compared with only importing what they need. Bytecode is cached."""
    import cv2

    with tempfile.TemporaryDirectory() as folder:
        image, model, props = (str(Path(folder) / name) for name in ("small.png", "model.safetensors", "props.h5"))
        cv2.imwrite(image, cv2.resize(read_image(data / "proposals" / "000004.jpg").pixels, (160, 120)))
        recipe = Recipe(network=Network("small")).changed({"images.short_side": 0})
        source = {"source": SelectiveSearch().described(), "max_boxes": 2000, "min_size": 20.0}
        torch.manual_seed(0)
        Detector(ModelConfig.of_recipe(recipe, ("a", "b"), source), build("small")).eval().save(model)
        commands = {
            "torch": ["detect", image, "--model", model],
            "numba, cv2": ["proposals", image, "-o", props, "--force"],
        }
        for modules, words in commands.items():
            ours, theirs = [sys.executable, "-m", "frcnn_cli", *words], [sys.executable, "-c", f"import {modules}"]
            for line in (ours, theirs):  # caches bytecode and machine code
                processor_time(line)
            times = [(processor_time(ours), processor_time(theirs)) for _ in range(REPEATS)]
            own, peer = (statistics.median(side) for side in zip(*times, strict=True))
            what = f"frcnn {words[0]} of one image, processor time; peer: python -c 'import {modules}'"
            yield Row(what, 1000 * own, 1000 * peer)


def processor_time(line: list[str]) -> float:
    """Seconds of user and system time of a command, all threads together."""
    import os
    import resource

    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(line, capture_output=True, check=True, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def help_and_version() -> Iterator[Row]:
    """The time of the command line alone."""
    for word in ("--help", "--version"):
        line = [sys.executable, "-m", "frcnn_cli", word]
        ours, theirs = seconds(
            partial(subprocess.run, line, capture_output=True, check=True),
            partial(subprocess.run, [sys.executable, "-c", "pass"], check=True),
            repeats=10,
        )
        yield Row(f"frcnn {word}; peer: python -c pass", 1000 * ours, 1000 * theirs)


PARTS = {part.__name__: part for part in (pooling, detection, rcnn, training, cached, memory, files, start)}


def main() -> None:
    global REPEATS, IMAGES
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--only", default=",".join(PARTS), help="parts, with commas between them")
    parser.add_argument("--quick", action="store_true", help="one repeat of each: to see that it runs")
    args = parser.parse_args()
    if args.quick:
        REPEATS, IMAGES = 1, 3
    keep_freed_memory()  # as our commands do
    machine = Machine()
    where = torch.cuda.get_device_name() if DEVICE.type == "cuda" else f"{torch.get_num_threads()} CPU threads"
    print(f"frcnn {__version__}, torch {torch.__version__}, {where}; {machine}\n")
    print("| what | ours | peer | ratio | limit | share of the limit |")
    print("|---|---|---|---|---|---|")
    for name in args.only.split(","):
        for row in PARTS[name](args.data, machine):
            print(row, flush=True)


if __name__ == "__main__":
    main()
