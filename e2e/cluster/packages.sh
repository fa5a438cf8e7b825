#!/usr/bin/env bash
# Install what a cluster with a node takes from Debian. Nothing else of it touches the machine.
exec "$(dirname "$0")/../packages.sh" \
    containerd runc containernetworking-plugins iptables iproute2 util-linux mount
