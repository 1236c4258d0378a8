#!/bin/bash
# Proposals and detections of a large set of photographs on a cluster: each task of a Slurm array computes one shard.
#
#     sbatch --array=1-8 slurm.sh IMAGES MODEL RESULTS
#
# A task that is stopped can be submitted again; it computes only what is missing. When all tasks have ended, every
# command reads their files as one: frcnn recall 'RESULTS/props-*.h5', frcnn eval 'RESULTS/dets-*.h5'.
#SBATCH --cpus-per-task=4
#SBATCH --mem=8G
#SBATCH --time=04:00:00

set -euo pipefail
images=$1 model=$2 results=$3
shard=$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT
name=$SLURM_ARRAY_TASK_ID-of-$SLURM_ARRAY_TASK_COUNT

mkdir -p "$results"
frcnn proposals "$images" --shard "$shard" -o "$results/props-$name.h5" --workers "${SLURM_CPUS_PER_TASK:-4}"
frcnn detect "$images" --shard "$shard" -o "$results/dets-$name.h5" --model "$model"
