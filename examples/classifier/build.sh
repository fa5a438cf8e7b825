#!/usr/bin/env bash
# Train both versions and pack each with the archiver, as anyone would: build/1.0 and build/2.0.
set -euo pipefail
cd "$(dirname "$0")"
python train.py
for version in 1.0 2.0; do
  mkdir -p "build/$version"
  torch-model-archiver --force \
    --model-name classifier \
    --version "$version" \
    --serialized-file "build/model-$version.pt" \
    --handler handler.py \
    --extra-files index_to_name.json \
    --export-path "build/$version"
done
