#!/usr/bin/env bash
# Blood cells, end to end: proposals, training on trainval, AP on test, and the reasons for missed objects.
#
#   examples/bccd.sh DATA [WORK [OPTIONS OF FRCNN TRAIN]]
#   examples/bccd.sh DATA runs/paper --recipe paper --epochs 16
#
# DATA holds bccd/ (the BCCD data set in VOC layout) and weights/squeezenet1_0_tv.pth (ImageNet weights of torchvision's
# squeezenet1_0). All files are written to WORK (default: runs/bccd-files). Without further options, the modern recipe is
# trained for 14 epochs. Interrupted at any moment, the same command continues where it stopped.
# frcnn must be on the PATH; in a checkout: uv run examples/bccd.sh DATA
set -euo pipefail
data=${1:?usage: examples/bccd.sh DATA [WORK]}
work=${2:-runs/bccd-files}
shift $(($# > 1 ? 2 : 1))
[ $# -gt 0 ] || set -- --recipe modern --epochs 14 --long-side 800
bccd=voc:$data/bccd

run() { # prints and runs a command, unless its output exists
    local output=$1
    shift
    if [ -e "$output" ]; then echo "have $output"; else echo "\$ $*" && "$@"; fi
}

for split in trainval test; do
    # k=50: regions small enough for platelets.
    run "$work/props-$split.h5" frcnn proposals "$bccd" --split $split -o "$work/props-$split.h5" \
        --set preset=quality --set k=50
done
frcnn recall "$work/props-test.h5" --data "$bccd" --split test --by class

resume=()
[ -e "$work/run/state.safetensors" ] && resume=(--resume)
echo "\$ frcnn train ... (two boxes of trainval have no area: --bad-boxes fix drops them)"
time frcnn train --data "$bccd" --split trainval --props "$work/props-trainval.h5" -o "$work/run" --bad-boxes fix \
    --backbone squeezenet1_0 --weights "$data/weights/squeezenet1_0_tv.pth" "$@" "${resume[@]}"

time {
    run "$work/feats.h5" frcnn features "$bccd" --split test --model "$work/run" -o "$work/feats.h5"
    run "$work/scores.h5" frcnn score "$work/feats.h5" --props "$work/props-test.h5" --model "$work/run" -o "$work/scores.h5"
    run "$work/dets.h5" frcnn nms "$work/scores.h5" -o "$work/dets.h5"
    frcnn eval "$work/dets.h5" --data "$bccd" --split test --ci --coco \
        --explain --scores "$work/scores.h5" --props "$work/props-test.h5"
}
frcnn eval "$work/dets.h5" --data "$bccd" --split test --metric voc07
