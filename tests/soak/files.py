"""One small file of every kind that frcnn reads, and what a reader gets from it."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from frcnn_cli.core.decoding import read_image
from frcnn_cli.data.formats.coco import read_coco_labels
from frcnn_cli.data.formats.csv import read_csv_labels
from frcnn_cli.data.formats.pictures import Pictures
from frcnn_cli.data.formats.voc import read_annotation
from frcnn_cli.data.formats.yolo import read_yolo_labels
from frcnn_cli.data.layouts import read_layout
from frcnn_cli.data.load import load_dataset
from frcnn_cli.data.synthetic import make_dataset
from frcnn_cli.detector.detector import Detector
from frcnn_cli.evaluation.results import read_coco_results, read_voc_results
from frcnn_cli.proposals.box_files.reading import read_box_file
from frcnn_cli.recipes.recipe import Recipe
from frcnn_cli.store.journal import Journal
from frcnn_cli.store.reader import StageFile
from frcnn_cli.training.checkpoint import read_state
from frcnn_cli.training.log import read_log
from tests.conftest import run_frcnn
from tests.data.exports import EXPORTS
from tests.proposals.files.test_formats import cells, save_v73
from tests.store.test_files import as_version_1

TRAINING = ("--backbone", "small", "--weights", "none", "--short-side", 0, "--background-iou", 0, 0.5, "--epochs", 1)
WINDOWS = ("--source", "sliding-window", "--workers", 0, "--max-boxes", 60)


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    path: a whole file. read: what a reader gets from a file at that path, or FrcnnError.
    checked: whether every change of the content is noticed (files with checksums).
    in_child: whether a child process reads it, which takes longer.
    """

    name: str
    path: Path
    read: Callable[[Path], Any]
    checked: bool = False
    in_child: bool = False


def make(folder: Path) -> list[Kind]:
    """Writes the files, with the commands that users have, into a new folder."""
    make_dataset(folder / "voc", train=6, test=2, seed=1, size=(60, 50))
    data = f"voc:{folder / 'voc'}"
    _frcnn("proposals", data, "--split", "trainval", "-o", folder / "props.h5", *WINDOWS)
    _frcnn("train", "--data", data, "--props", folder / "props.h5", "-o", folder / "run", *TRAINING)
    _frcnn("features", data, "--split", "trainval", "--model", folder / "run", "-o", folder / "feats.h5")
    _frcnn(
        "score",
        folder / "feats.h5",
        "--props",
        folder / "props.h5",
        "--model",
        folder / "run",
        "-o",
        folder / "scores.h5",
    )
    _frcnn("nms", folder / "scores.h5", "-o", folder / "dets.h5")
    kinds = [Kind(f"{name}.h5", folder / f"{name}.h5", _stage, True) for name in ("props", "feats", "scores", "dets")]
    kinds.append(Kind("model", folder / "run/model.safetensors", _model, True))
    kinds.append(Kind("checkpoint", folder / "run/state.safetensors", _checkpoint, True))
    kinds += [_journal(folder, "props.h5", None), _journal(folder, "feats.h5", "maps")]
    old = folder / "old.h5"
    old.write_bytes((folder / "props.h5").read_bytes())
    kinds.append(Kind("props.h5 of version 1", as_version_1(old), _stage, in_child=True))
    return kinds + _labels(folder, data) + _boxes(folder) + _others(folder)


_EXPORTS = {  # of other tools, and the end of the name of the file that is damaged
    "cvat_yolo": ".data",
    "labelme": ".json",
    "via_json": ".json",
    "via_csv": ".csv",
    "label_studio": ".json",
    "supervisely": "jpg.json",
    "openimages_csv": "bbox.csv",
    "lists_csv": ".csv",
}


def _labels(folder: Path, data: str) -> list[Kind]:
    image = load_dataset(data, "trainval").refs[0].path
    _frcnn("data", "convert", data, "--to", "coco", "-o", folder / "coco")
    table = folder / "labels.csv"
    table.write_text(f"image,class,xmin,ymin,xmax,ymax\n{image.name},cat,1,2,30,40\n{image.name},dog,3,2,30,40\n")
    (folder / "yolo/images").mkdir(parents=True)
    (folder / "yolo/labels").mkdir()
    (folder / "yolo/images/a.jpg").write_bytes(image.read_bytes())
    (folder / "yolo/labels/a.txt").write_text("0 0.5 0.5 0.2 0.3\n1 0.25 0.5 0.2 0.3\n")
    (folder / "yolo/data.yaml").write_text("names: [cat, dog]\n")
    sources = {name: EXPORTS[name](folder / "exports" / name) for name in _EXPORTS}
    of_others = [
        Kind(f"export {name}", sorted((folder / "exports" / name).rglob(f"*{end}"))[-1], partial(_export, source))
        for (name, source), end in zip(sources.items(), _EXPORTS.values(), strict=True)
    ]

    def yolo(path: Path) -> Any:
        return read_yolo_labels(folder / "yolo", Pictures(folder / "yolo"))

    _frcnn("export", folder / "dets.h5", "--format", "voc", "-o", folder / "results")
    _frcnn("export", folder / "dets.h5", "--format", "coco", "-o", folder / "results.json")
    with StageFile(folder / "dets.h5") as file:
        classes, images = file.classes, {number: image.key for number, image in enumerate(file.images, 1)}
    result = next((folder / "results").iterdir())
    return [
        Kind("VOC annotation", next((folder / "voc/Annotations").iterdir()), read_annotation),
        Kind(
            "COCO annotations",
            folder / "coco/annotations/instances_trainval.json",
            lambda path: read_coco_labels(path, folder / "coco/images"),
        ),
        Kind("labels .csv", table, lambda path: read_csv_labels(path, Pictures(image.parent))),
        Kind("YOLO labels", folder / "yolo/labels/a.txt", yolo),
        Kind("YOLO data.yaml", folder / "yolo/data.yaml", yolo),
        Kind("VOC results", result, lambda path: read_voc_results(path.parent, classes, "test")),
        Kind(
            "COCO results",
            folder / "results.json",
            lambda path: read_coco_results(path, images, dict(enumerate(range(len(classes)), 1)), classes),
        ),
        Kind(
            "list of a split", folder / "voc/ImageSets/Main/trainval.txt", lambda path: load_dataset(data, "trainval")
        ),
        *of_others,
    ]


def _export(source: Path, path: Path) -> Any:
    """Reads labels of another tool, whatever the damage to one of their files."""
    return read_layout(source)


def _boxes(folder: Path) -> list[Kind]:
    made = folder / "boxes"
    made.mkdir()
    boxes = [np.arange(4 * n, dtype=np.float64).reshape(n, 4) + np.array([0, 0, 9, 9]) for n in (3, 0, 5)]
    names = ["a", "b", "c"]
    np.savez(made / "a.npz", **dict(zip(names, boxes, strict=True)))
    (made / "a.json").write_text(json.dumps({name: rows.tolist() for name, rows in zip(names, boxes, strict=True)}))
    rows = [f"{name},{','.join(map(str, box))}" for name, part in zip(names, boxes, strict=True) for box in part]
    (made / "a.csv").write_text("\n".join(["image,x1,y1,x2,y2", *rows]) + "\n")
    import scipy.io

    scipy.io.savemat(made / "a.mat", {"boxes": cells(boxes), "images": cells(names)}, do_compression=True)
    (made / "a.pkl").write_bytes(pickle.dumps({"boxes": boxes, "ids": names}))
    kinds = [Kind(f"boxes {path.suffix}", path, _box_file) for path in sorted(made.iterdir())]
    save_v73(folder / "v73.mat", boxes, names)
    return [*kinds, Kind("boxes .mat 7.3", folder / "v73.mat", _box_file, in_child=True)]


def _others(folder: Path) -> list[Kind]:
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    kinds = []
    for ending in ("jpg", "png", "bmp", "tiff", "webp", "gif", "ppm", "tga", "jp2", "avif"):
        path = folder / f"image.{ending}"
        Image.fromarray(pixels).save(path)
        kinds.append(Kind(f"image .{ending}", path, lambda path: read_image(path).pixels.tobytes()))
    recipe = folder / "recipe.toml"
    recipe.write_text(Recipe.load("modern").to_toml())
    kinds.append(Kind("recipe", recipe, lambda path: Recipe.load(str(path))))
    kinds.append(Kind("log", folder / "run/log.jsonl", read_log))
    return kinds


def _journal(folder: Path, name: str, wide: str | None) -> Kind:
    """The journal of a stage that was killed when all images were finished."""
    with StageFile(folder / name) as file:
        path = folder / f"{file.format.name}.partial"
        journal = Journal(path, {"format": file.format.name, "provenance": file.provenance}, wide=wide)
        for image, arrays in file:
            journal.write(image, arrays)
        journal.close()
        identity = {"format": file.format.name, "provenance": file.provenance}

    def read(path: Path) -> Any:
        again = Journal(path, identity, wide=wide)
        try:
            return {image: _bytes(again.read(image.key)) for image in again.images}
        finally:
            again.close()

    return Kind(f"{name}.partial", path, read, True)


def _stage(path: Path) -> Any:
    with StageFile(path) as file:
        return file.images, file.provenance, file.tool_version, [_bytes(arrays) for _, arrays in file]


def _model(path: Path) -> Any:
    model = Detector.load(path, "cpu")
    return model.config, {name: value.numpy().tobytes() for name, value in model.state_dict().items()}


def _checkpoint(path: Path) -> Any:
    state, tensors = read_state(path.parent)
    return state, {name: value.numpy().tobytes() for name, value in tensors.items()}


def _box_file(path: Path) -> Any:
    file = read_box_file(path)
    return file.names, [file.read(i).tobytes() for i in range(file.count)]


def _bytes(arrays: dict[str, Any]) -> Any:
    return {name: (array.dtype, array.shape, array.tobytes()) for name, array in arrays.items()}


def _frcnn(*arguments: object) -> None:
    ran = run_frcnn(*arguments, "-q")
    if ran.code:
        raise RuntimeError(ran.err)
