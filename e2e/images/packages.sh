#!/usr/bin/env bash
# Install what builds images without docker. It is used by root only, and only while it builds.
exec "$(dirname "$0")/../packages.sh" buildah mmdebstrap debian-archive-keyring util-linux
