#!/usr/bin/env bash
# Install the named Debian packages that are missing; without root, say which. No service is started.
set -euo pipefail

missing=()
for package in "$@"; do
    dpkg-query --show --showformat='${db:Status-Abbrev}' "$package" 2>/dev/null | grep -q '^ii' || missing+=("$package")
done
if ((${#missing[@]} == 0)); then
    echo "all packages are here: $*"
    exit 0
fi
if ((EUID != 0)); then
    echo "missing: ${missing[*]}; install them as root: apt-get install ${missing[*]}" >&2
    exit 1
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update --quiet
# What is needed is run by who needs it: the machine's own containerd need not be started.
policy=/usr/sbin/policy-rc.d
if [[ ! -e $policy ]]; then
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
fi
apt-get install --yes --quiet --no-install-recommends "${missing[@]}"
