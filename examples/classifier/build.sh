#!/usr/bin/env bash
# Train both versions and pack each with the archiver, as anyone would, into FOLDER/1.0 and FOLDER/2.0
# (build/ unless another folder is named).
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
folder="${1:-$here/build}"
python "$here/train.py" "$folder"
for version in 1.0 2.0; do
  mkdir -p "$folder/$version"
  torch-model-archiver --force \
    --model-name classifier \
    --version "$version" \
    --serialized-file "$folder/model-$version.pt" \
    --handler "$here/handler.py" \
    --extra-files "$here/index_to_name.json" \
    --export-path "$folder/$version"
done
