#!/usr/bin/env bash
# Two machines, as two network namespaces of this one: Ray, torchrun and shards, each compared with one process.
#
#   sudo env PATH="$PATH" tests/two_machines.sh
#
# Needs root, iproute2 and frcnn-cli[ray]. Prints "equal True" three times. What the two share is the disk, except Ray's
# folder in /tmp.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
export PYTHONPATH=$root OMP_NUM_THREADS=1 RAY_AUTH_MODE=token
work=$(mktemp -d)
cd "$work"
finish() {
    for name in n1 n2; do
        ip netns pids $name 2>/dev/null | xargs -r kill -9 || true
        ip netns del $name 2>/dev/null || true
        rm -rf "/etc/netns/$name"
    done
    rm -rf "$work"
}
trap finish EXIT

for name in n1 n2; do
    ip netns add $name
    mkdir -p /etc/netns/$name
    printf '127.0.0.1 localhost\n10.9.0.1 n1\n10.9.0.2 n2\n' >/etc/netns/$name/hosts
done
ip link add v1 netns n1 type veth peer name v2 netns n2
for i in 1 2; do
    ip -n n$i addr add 10.9.0.$i/24 dev v$i
    ip -n n$i link set v$i up
    ip -n n$i link set lo up
    ip -n n$i route add default via 10.9.0.$((3 - i))
done
on() { # a command on machine n1 or n2, which knows its name
    ip netns exec "$1" unshare -u sh -c "hostname $1 && $2"
}
files() { python -c "from pathlib import Path; from tests.conftest import same_datasets as same; print('equal', same(*map(Path, '$*'.split())))"; }

python -c "from pathlib import Path; from frcnn_cli.data.synthetic import make_dataset as make
make(Path('my-data'), train=12, test=4, seed=3, size=(110, 90))"
small="--weights none --backbone squeezenet1_0 --recipe modern --batch-images 2 --set solver.iterations=4 --device cpu"
frcnn proposals -q voc:my-data --split trainval -o props-train.h5
train="train --data voc:my-data --props props-train.h5 $small"

echo "torchrun on two machines, and two processes on one"
for i in 1 2; do
    on n$i "torchrun --nnodes 2 --nproc-per-node 1 --rdzv-backend c10d --rdzv-endpoint n1:29500 -m frcnn_cli $train -o many" \
        >torchrun-$i.log 2>&1 &
done
wait
frcnn $train -q --devices 2 -o two
python -c "
from numpy import array_equal; from safetensors.numpy import load_file
a, b = (load_file(f'{run}/model.safetensors') for run in ('many', 'two'))
print('equal', all(array_equal(a[name], b[name]) for name in a))"

echo "frcnn detect on a Ray of two machines, and in one process"
mkdir ray-of-n2
ip netns exec n1 sh -c "ray start --head --port 6379 --num-cpus 1" >ray-1.log 2>&1
ip netns exec n2 sh -c "mount --bind $work/ray-of-n2 /tmp/ray && ray start --address 10.9.0.1:6379 --num-cpus 1" >ray-2.log 2>&1
ip netns exec n1 sh -c "frcnn detect -q my-data/JPEGImages --cluster 10.9.0.1:6379 --model two -o ray.h5"
frcnn detect -q my-data/JPEGImages --model two -o one.h5
files ray.h5 one.h5

echo "shards on two machines, and one file"
for i in 1 2; do on n$i "frcnn proposals -q my-data/JPEGImages --shard $i/2 -o shard-$i.h5" & done
wait
frcnn merge -q shard-1.h5 shard-2.h5 -o merged.h5
frcnn proposals -q my-data/JPEGImages -o whole.h5
files merged.h5 whole.h5
