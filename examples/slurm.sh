#!/bin/bash
# Proposals and detections of a large set of photographs on a cluster: each task of a Slurm array computes one shard.
#
#     sbatch --array=1-8 slurm.sh 8 IMAGES MODEL RESULTS
#
# 8 is the number of shards. A task that was stopped can be submitted again, alone too (--array=3); it computes only what
# is missing. Photographs that cannot be read are named in its log, and its exit code is then 1. When all tasks have ended,
# every command reads their files as one: frcnn recall 'RESULTS/props-*.h5', frcnn eval 'RESULTS/dets-*.h5'.
#SBATCH --cpus-per-task=4
#SBATCH --mem=8G
#SBATCH --time=04:00:00

set -euo pipefail
shards=$1 images=$2 model=$3 results=$4
shard=$SLURM_ARRAY_TASK_ID/$shards
name=$SLURM_ARRAY_TASK_ID-of-$shards
status=0

mkdir -p "$results"
frcnn proposals "$images" --shard "$shard" -o "$results/props-$name.h5" --workers "${SLURM_CPUS_PER_TASK:-4}" || status=$?
frcnn detect "$images" --shard "$shard" -o "$results/dets-$name.h5" --model "$model" || status=$?
exit $status
