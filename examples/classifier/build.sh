#!/usr/bin/env bash
# Train both versions, pack each with the archiver, as anyone would, and make a ConfigMap of the archives.
# Writes build/, wine-archives/ and wine-archives.yaml beside this file, or into FOLDER if one is named.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
folder="${1:-$here}"
archives="$folder/wine-archives"
python "$here/train.py" "$folder/build"
mkdir -p "$archives"
for version in 1.0 2.0; do
  torch-model-archiver --force \
    --model-name classifier \
    --version "$version" \
    --serialized-file "$folder/build/model-$version.pt" \
    --handler "$here/handler.py" \
    --extra-files "$here/labels/index_to_name.json" \
    --export-path "$folder/build"
  mv "$folder/build/classifier.mar" "$archives/classifier-$version.mar"
done
# Some ten kilobytes each. A ConfigMap holds 1 MiB, and kubectl apply notes what it applied in an annotation
# of at most 256 KiB: beyond that it takes `kubectl apply --server-side`.
{
  printf 'apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: wine-archives\nbinaryData:\n'
  for version in 1.0 2.0; do
    printf '  classifier-%s.mar: ' "$version"
    base64 <"$archives/classifier-$version.mar" | tr -d '\n'
    echo
  done
} >"$archives.yaml"
