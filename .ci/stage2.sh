#!/usr/bin/env bash
# Every command that needs no network of neurons, on what `demo` left in the folder $1, in the
# environment that is active; torch is not installed there.
set -euo pipefail
cd "$1"
if python -c 'import torch' 2>/dev/null; then echo "torch is installed here" >&2; exit 1; fi

set -x
histoboost doctor
histoboost inspect slides.h5
histoboost align slides.h5 -o alignment.csv
histoboost explore slides.h5 -o explore.html
histoboost cache list store.zarr
histoboost cache verify store.zarr
histoboost cache relabel store.zarr slides.h5
histoboost cache export store.zarr exported.h5ad
histoboost evaluate store.zarr --model ridge
histoboost ablate store.zarr --model ridge --features 'stain-texture@*' --features coords
histoboost train store.zarr trained
histoboost predict store.zarr trained -o trained.csv
histoboost predict store.zarr model -o again.csv
cmp submission.csv again.csv
for suffix in h5ad geojson png html; do
    histoboost predict store.zarr trained -o "predicted_{slide}.$suffix"
done
histoboost report store.zarr trained -o trained.html
set +x

for command in "featurize slides.h5 other.zarr --backbone stain-texture --patch 32" \
    "finetune slides.h5 cnn" "demo --out again"; do
    # shellcheck disable=SC2086
    said=$(histoboost $command 2>&1) && exit 1
    echo "$said" | grep "pip install 'histoboost\[torch\]'"
done
said=$(histoboost evaluat 2>&1) && exit 1
echo "$said" | grep "did you mean evaluate"
