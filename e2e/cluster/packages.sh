#!/usr/bin/env bash
# Install what a cluster with a node takes from Debian. Nothing else of it touches the machine.
set -euo pipefail

packages=(containerd runc containernetworking-plugins iptables iproute2 util-linux mount)

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
# The cluster runs a containerd of its own: the machine's need not be started.
policy=/usr/sbin/policy-rc.d
if [[ ! -e $policy ]]; then
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
fi
apt-get install --yes --quiet --no-install-recommends "${missing[@]}"
