"""Box files of other tools, one module per format, which reads and writes it.

| format | module | what it states |
|---|---|---|
| our `.h5` | `frcnn` | everything |
| `.npz`, an array per image | `npz` | names |
| `.csv` | `csv` | names, perhaps the order of the numbers |
| `.json`: boxes by image, or COCO results | `json` | names or numbers; COCO: x y w h |
| `.mat`: a cell per image, or the array of one image; v5 and v7.3 | `matlab` | perhaps names |
| `.pkl` of Detectron, detectron2, MMDetection | `pickles` | names (old ones: only the order), perhaps the convention |
| `.parquet`, written by `frcnn export` | `parquet` | everything |
| a folder with one `.mat` or `.npy` per image | `matlab` | names |

`box_file` defines what a reader returns, `convention` the possible meanings of the four numbers, and `matching` which
entry belongs to which image; `importing` combines them. Every file is treated as untrusted: `unpickle` reads
pickles without executing them.
"""
