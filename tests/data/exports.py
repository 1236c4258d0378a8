"""Small data sets in the exact layout of other tools' exports: two pictures of 100 x 80 with a cat and a dog."""

from __future__ import annotations

import json
from pathlib import Path

from PIL import Image as Pillow

SIZE = (100, 80)
CAT, DOG = ("cat", 10.0, 20.0, 40.0, 60.0), ("dog", 50.0, 8.0, 90.0, 72.0)
EXPECTED = {"a": [CAT, DOG], "b": [DOG]}


def picture(path: Path, size: tuple[int, int] = SIZE, shade: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Pillow.new("RGB", size, (shade, sum(path.name.encode()) % 256, 90)).save(path)


def write(path: Path, text: str, encoding: str = "utf-8") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding)


def voc_xml(name: str, objects: list[tuple[str, float, float, float, float]], size: tuple[int, int] = SIZE) -> str:
    """As LabelImg writes it: pixels from 1, both corners inside."""
    marked = "".join(
        f"<object><name>{n}</name><pose>Unspecified</pose><truncated>0</truncated><difficult>0</difficult><bndbox>"
        f"<xmin>{x1 + 1:g}</xmin><ymin>{y1 + 1:g}</ymin><xmax>{x2:g}</xmax><ymax>{y2:g}</ymax></bndbox></object>"
        for n, x1, y1, x2, y2 in objects
    )
    return (
        f"<annotation><folder>f</folder><filename>{name}</filename><path>/home/me/f/{name}</path>"
        f"<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>{marked}</annotation>"
    )


def labelimg_voc(folder: Path) -> Path:
    """LabelImg: XML beside the pictures."""
    for key, objects in EXPECTED.items():
        picture(folder / f"{key}.jpg")
        write(folder / f"{key}.xml", voc_xml(f"{key}.jpg", objects))
    return folder


def roboflow_voc(folder: Path) -> Path:
    """Roboflow, Pascal VOC: a folder per split, XML beside the pictures."""
    for key, split in (("a", "train"), ("b", "valid")):
        picture(folder / split / f"{key}.jpg")
        write(folder / split / f"{key}.xml", voc_xml(f"{key}.jpg", EXPECTED[key]))
    write(folder / "README.roboflow.txt", "exported")
    return folder


def plain_voc(folder: Path) -> Path:
    """`images/` and `annotations/`, without lists."""
    for key, objects in EXPECTED.items():
        picture(folder / "images" / f"{key}.png")
        write(folder / "annotations" / f"{key}.xml", voc_xml(f"{key}.png", objects))
    return folder


def yolo_lines(objects: list[tuple[str, float, float, float, float]]) -> str:
    w, h = SIZE
    return "".join(
        f"{('cat', 'dog').index(n)} {(x1 + x2) / 2 / w} {(y1 + y2) / 2 / h} {(x2 - x1) / w} {(y2 - y1) / h}\n"
        for n, x1, y1, x2, y2 in objects
    )


def ultralytics(folder: Path) -> Path:
    """Ultralytics: data.yaml with a root that is not here, and folders for images and labels."""
    for key, split in (("a", "train"), ("b", "val")):
        picture(folder / "images" / split / f"{key}.jpg")
        write(folder / "labels" / split / f"{key}.txt", yolo_lines(EXPECTED[key]))
    yaml = "path: ../datasets/pets\ntrain: images/train\nval: images/val\ntest:\nnames:\n  0: cat\n  1: dog\n"
    write(folder / "data.yaml", yaml)
    return folder / "data.yaml"


def roboflow_yolo(folder: Path) -> Path:
    """Roboflow, YOLOv8: split/images, split/labels, and paths that begin with ../."""
    for key, split in (("a", "train"), ("b", "valid")):
        picture(folder / split / "images" / f"{key}.jpg")
        write(folder / split / "labels" / f"{key}.txt", yolo_lines(EXPECTED[key]))
    write(folder / "data.yaml", "train: ../train/images\nval: ../valid/images\nnc: 2\nnames: ['cat', 'dog']\n")
    write(folder / "README.dataset.txt", "pets")
    return folder


def cvat_yolo(folder: Path) -> Path:
    """CVAT, YOLO 1.1: obj.data, obj.names, labels beside the pictures, a list with another root."""
    for key, objects in EXPECTED.items():
        picture(folder / "obj_train_data" / f"{key}.png")
        write(folder / "obj_train_data" / f"{key}.txt", yolo_lines(objects))
    write(folder / "obj.names", "cat\ndog\n")
    write(folder / "obj.data", "classes = 2\ntrain = data/train.txt\nnames = data/obj.names\nbackup = backup/\n")
    write(folder / "train.txt", "data/obj_train_data/a.png\ndata/obj_train_data/b.png\n")
    return folder


def labelimg_yolo(folder: Path) -> Path:
    """LabelImg, YOLO: classes.txt and labels beside the pictures."""
    for key, objects in EXPECTED.items():
        picture(folder / f"{key}.jpg")
        write(folder / f"{key}.txt", yolo_lines(objects))
    write(folder / "classes.txt", "cat\ndog\n")
    return folder


def coco(objects: dict[str, list[tuple[str, float, float, float, float]]], ending: str = ".jpg") -> dict[str, object]:
    images, annotations = [], []
    for i, (key, found) in enumerate(objects.items()):
        images.append({"id": i, "license": 1, "file_name": f"{key}{ending}", "width": SIZE[0], "height": SIZE[1]})
        for n, x1, y1, x2, y2 in found:
            box = [x1, y1, x2 - x1, y2 - y1]
            category = ("cat", "dog").index(n) + 1
            annotations.append({"id": len(annotations), "image_id": i, "category_id": category, "bbox": box})
    categories = [
        {"id": 0, "name": "pets", "supercategory": "none"},
        {"id": 1, "name": "cat", "supercategory": "pets"},
        {"id": 2, "name": "dog", "supercategory": "pets"},
    ]
    return {"info": {}, "licenses": [], "categories": categories, "images": images, "annotations": annotations}


def roboflow_coco(folder: Path) -> Path:
    """Roboflow, COCO: a folder per split with _annotations.coco.json, and a category that only groups others."""
    for key, split in (("a", "train"), ("b", "valid")):
        picture(folder / split / f"{key}.jpg")
        write(folder / split / "_annotations.coco.json", json.dumps(coco({key: EXPECTED[key]})))
    return folder


def cvat_coco(folder: Path) -> Path:
    """CVAT, COCO 1.0: annotations/instances_default.json and images/."""
    for key in EXPECTED:
        picture(folder / "images" / f"{key}.jpg")
    write(folder / "annotations" / "instances_default.json", json.dumps(coco(EXPECTED)))
    return folder


def labelme(folder: Path) -> Path:
    """labelme: one JSON per picture; a rectangle from any corner, and a polygon."""
    for key, objects in EXPECTED.items():
        picture(folder / f"{key}.jpg")
        shapes = []
        for n, x1, y1, x2, y2 in objects:
            rectangle = {"label": n, "points": [[x2, y1], [x1, y2]], "shape_type": "rectangle", "group_id": None}
            corners = [[x1, (y1 + y2) / 2], [x2, y1], [x2, y2], [(x1 + x2) / 2, y2]]
            polygon = {"label": n, "points": corners, "shape_type": "polygon", "group_id": None}
            shapes.append(rectangle if n == "cat" else polygon)
        shapes.append({"label": "_background_", "points": [[0, 0], [9, 9]], "shape_type": "rectangle"})
        shapes.append({"label": "cat", "points": [[1, 1]], "shape_type": "point"})
        about = {"version": "5.2.1", "flags": {}, "shapes": shapes, "imagePath": f"..\\f\\{key}.jpg", "imageData": None}
        write(folder / f"{key}.json", json.dumps(about | {"imageWidth": SIZE[0], "imageHeight": SIZE[1]}))
    return folder


def _regions(objects: list[tuple[str, float, float, float, float]]) -> list[dict[str, object]]:
    found = []
    for n, x1, y1, x2, y2 in objects:
        shape: dict[str, object] = {"name": "rect", "x": x1, "y": y1, "width": x2 - x1, "height": y2 - y1}
        if n == "dog":
            shape = {"name": "polygon", "all_points_x": [x1, x2, x2], "all_points_y": [y1, y1, y2]}
        found.append({"shape_attributes": shape, "region_attributes": {"type": n}})
    return found


def via_json(folder: Path) -> Path:
    """VGG Image Annotator 2: the saved project."""
    entries = {}
    for key, objects in EXPECTED.items():
        picture(folder / f"{key}.jpg")
        entry = {"filename": f"{key}.jpg", "size": 825, "regions": _regions(objects), "file_attributes": {}}
        entries[f"{key}.jpg825"] = entry
    write(folder / "via_project.json", json.dumps({"_via_settings": {}, "_via_img_metadata": entries}))
    return folder / "via_project.json"


def via_csv(folder: Path) -> Path:
    """VGG Image Annotator 2: annotations as a table."""
    head = "filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes"
    lines = [head]
    for key, objects in EXPECTED.items():
        picture(folder / f"{key}.jpg")
        for i, region in enumerate(_regions(objects)):
            cells = [json.dumps(region[name]).replace('"', '""') for name in ("shape_attributes", "region_attributes")]
            lines.append(f'{key}.jpg,825,"{{}}",{len(objects)},{i},"{cells[0]}","{cells[1]}"')
    write(folder / "via.csv", "\n".join(lines))
    return folder / "via.csv"


def _percent(n: str, x1: float, y1: float, x2: float, y2: float) -> dict[str, object]:
    w, h = SIZE
    corner, size = {"x": 100 * x1 / w, "y": 100 * y1 / h}, {"width": 100 * (x2 - x1) / w, "height": 100 * (y2 - y1) / h}
    return {**corner, **size, "rotation": 0, "rectanglelabels": [n]}


def label_studio(folder: Path) -> Path:
    """Label Studio, JSON: percentages, and names with the prefix of the upload."""
    tasks = []
    for i, (key, objects) in enumerate(EXPECTED.items()):
        picture(folder / f"{key}.jpg")
        results = [
            {"original_width": SIZE[0], "original_height": SIZE[1], "image_rotation": 0, "value": _percent(*one)}
            | {"id": f"r{j}", "from_name": "label", "to_name": "image", "type": "rectanglelabels"}
            for j, one in enumerate(objects)
        ]
        annotations = [{"id": i, "was_cancelled": False, "result": results}]
        data = {"image": f"/data/upload/1/4f3a12bc-{key}.jpg"}
        tasks.append({"id": i, "annotations": annotations, "data": data})
    write(folder / "project-1.json", json.dumps(tasks))
    return folder


def label_studio_min(folder: Path) -> Path:
    """Label Studio, JSON-MIN."""
    tasks = []
    for i, (key, objects) in enumerate(EXPECTED.items()):
        picture(folder / f"{key}.jpg")
        found = [_percent(*one) | {"original_width": SIZE[0], "original_height": SIZE[1]} for one in objects]
        about = {"image": f"/data/local-files/?d=pets/{key}.jpg", "id": i, "label": found, "annotator": 1}
        tasks.append(about | {"annotation_id": i})
    write(folder / "min.json", json.dumps(tasks))
    return folder / "min.json"


def supervisely(folder: Path) -> Path:
    """Supervisely: meta.json, and img and ann of each data set; corners of rectangles are pixels inside."""
    classes = [{"title": name, "shape": "rectangle", "color": "#FF0000"} for name in ("cat", "dog")]
    write(folder / "meta.json", json.dumps({"classes": classes, "tags": []}))
    for key, dataset in (("a", "ds1"), ("b", "ds2")):
        picture(folder / dataset / "img" / f"{key}.jpg")
        objects = [
            {"classTitle": n, "geometryType": "rectangle", "tags": []}
            | {"points": {"exterior": [[x1, y1], [x2 - 1, y2 - 1]], "interior": []}}
            for n, x1, y1, x2, y2 in EXPECTED[key]
        ]
        about = {"description": "", "tags": [], "size": {"height": SIZE[1], "width": SIZE[0]}, "objects": objects}
        write(folder / dataset / "ann" / f"{key}.jpg.json", json.dumps(about))
    return folder


def tensorflow_csv(folder: Path) -> Path:
    """The table of TensorFlow's tutorials, which they make from LabelImg's XML."""
    lines = ["filename,width,height,class,xmin,ymin,xmax,ymax"]
    for key, objects in EXPECTED.items():
        picture(folder / f"{key}.jpg")
        write(folder / f"{key}.xml", voc_xml(f"{key}.jpg", objects))
        lines += [f"{key}.jpg,100,80,{n},{x1 + 1:g},{y1 + 1:g},{x2:g},{y2:g}" for n, x1, y1, x2, y2 in objects]
    write(folder / "labels.csv", "\n".join(lines))
    return folder / "labels.csv"


def openimages_csv(folder: Path) -> Path:
    """OpenImages: fractions, x before y, names of classes in a table of their own."""
    lines = ["ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf,IsDepiction"]
    for key, objects in EXPECTED.items():
        picture(folder / "images" / f"{key}.jpg")
        for n, x1, y1, x2, y2 in objects:
            code = {"cat": "/m/01yrx", "dog": "/m/0bt9lr"}[n]
            lines.append(f"{key},xclick,{code},1,{x1 / 100},{x2 / 100},{y1 / 80},{y2 / 80},0,0,0,0")
    write(folder / "class-descriptions-boxable.csv", "/m/01yrx,cat\n/m/0bt9lr,dog\n")
    write(folder / "validation-annotations-bbox.csv", "\n".join(lines))
    return folder / "validation-annotations-bbox.csv"


def retinanet_csv(folder: Path) -> Path:
    """keras-retinanet: no header, absolute paths of another machine."""
    lines = []
    for key, objects in EXPECTED.items():
        picture(folder / f"{key}.jpg")
        lines += [f"/data/imgs/{key}.jpg,{x1:g},{y1:g},{x2:g},{y2:g},{n}" for n, x1, y1, x2, y2 in objects]
    write(folder / "annotations.csv", "\n".join(lines))
    return folder / "annotations.csv"


def lists_csv(folder: Path) -> Path:
    """A line per picture with lists; semicolons, decimal commas and UTF-16, as Excel writes them."""
    lines = ["image_id;bbox;label"]
    for key, objects in EXPECTED.items():
        picture(folder / f"{key}.jpg")
        boxes = ", ".join(f"[{x1}, {y1}, {x2}, {y2}]" for _, x1, y1, x2, y2 in objects)
        names = ", ".join(n for n, *_ in objects)
        lines.append(f"{key};[{boxes}];[{names}]")
    write(folder / "labels.csv", "\n".join(lines), "utf-16")
    return folder / "labels.csv"


def decimal_commas(folder: Path) -> Path:
    """Semicolons between cells, commas before decimals."""
    lines = ["image;class;x;y;width;height"]
    for key, objects in EXPECTED.items():
        picture(folder / f"{key}.jpg")
        for n, *box in objects:
            x, y, w, h = (f"{v:.1f}".replace(".", ",") for v in (box[0], box[1], box[2] - box[0], box[3] - box[1]))
            lines.append(f"{key}.jpg;{n};{x};{y};{w};{h}")
    write(folder / "labels.csv", "\n".join(lines))
    return folder


EXPORTS = {
    one.__name__: one
    for one in (
        *(labelimg_voc, roboflow_voc, plain_voc, ultralytics, roboflow_yolo, cvat_yolo, labelimg_yolo, roboflow_coco),
        *(cvat_coco, labelme, via_json, via_csv, label_studio, label_studio_min, supervisely, tensorflow_csv),
        *(openimages_csv, retinanet_csv, lists_csv, decimal_commas),
    )
}
SPLITS = {  # of pictures a and b; otherwise both are in trainval
    "roboflow_voc": ("train", "valid"),
    "ultralytics": ("train", "val"),
    "roboflow_yolo": ("train", "val"),
    "cvat_yolo": ("train", "train"),
    "roboflow_coco": ("train", "valid"),
    "cvat_coco": ("default", "default"),
    "supervisely": ("ds1", "ds2"),
}
