#!/usr/bin/env bash
# Install what builds images without docker. It is used by root only, and only while it builds.
set -euo pipefail

packages=(buildah mmdebstrap debian-archive-keyring util-linux)

missing=()
for package in "${packages[@]}"; do
    dpkg-query --show --showformat='${db:Status-Abbrev}' "$package" 2>/dev/null | grep -q '^ii' || missing+=("$package")
done
if ((${#missing[@]} == 0)); then
    echo "all packages are here: ${packages[*]}"
    exit 0
fi
if ((EUID != 0)); then
    echo "missing: ${missing[*]}; install them as root: sudo $0" >&2
    exit 1
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update --quiet
apt-get install --yes --quiet --no-install-recommends "${missing[@]}"
