#!/usr/bin/env bash
# Pack each version with the archiver, as anyone would, and make a ConfigMap of the archives.
# Writes review-archives/ and review-archives.yaml beside this file, or into FOLDER if one is named.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
folder="${1:-$here}"
archives="$folder/review-archives"
mkdir -p "$archives"
for version in 1.0 2.0 3.0; do
  torch-model-archiver --force \
    --model-name reviews \
    --version "$version" \
    --handler "$here/versions/$version/handler.py" \
    --export-path "$archives"
  mv "$archives/reviews.mar" "$archives/reviews-$version.mar"
done
{
  printf 'apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: review-archives\nbinaryData:\n'
  for version in 1.0 2.0 3.0; do
    printf '  reviews-%s.mar: ' "$version"
    base64 <"$archives/reviews-$version.mar" | tr -d '\n'
    echo
  done
} >"$archives.yaml"
