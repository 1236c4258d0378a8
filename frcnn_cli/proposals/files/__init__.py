"""Box files that others wrote, read and written.

| kind | module | what it tells of itself |
|---|---|---|
| our `.h5` | `tables` | everything |
| `.npz`, `.csv`, `.json` by image | `tables` | names |
| COCO results `.json` | `tables` | names or numbers, x y w h |
| `.mat`: a cell an image, or one image's array; v5 and v7.3 | `matlab` | perhaps names |
| `.pkl` of Detectron, detectron2, MMDetection | `pickles` | names (an old one: order alone), perhaps the convention |
| a folder of `.mat` or `.npy`, a file an image | `matlab` | names |

`boxfile` says what a reader returns, `convention` how the four numbers of a box may be meant, `matching` which entry is
which image's; `importing` puts it all together, and `exporting` goes the other way. Every file is taken for hostile:
`unpickle` reads pickles without running them.
"""

ENDINGS = (".h5", ".npz", ".csv", ".tsv", ".json", ".mat", ".pkl", ".pickle")
