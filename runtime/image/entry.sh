#!/bin/sh
# What a container of the runtime's image does with its words: TorchServe's images take the same.
set -e
case "${1:-}" in
  "" | -*)
    exec flambeau-runtime "$@"
    ;;
  serve)
    shift
    exec torchserve --start --foreground --ts-config /home/model-server/config.properties "$@"
    ;;
  torchserve)
    # A container lives as long as its first process: in the background there would be none.
    exec "$@" --foreground
    ;;
  *" "*)
    # A whole command line in one word.
    exec sh -c "$*"
    ;;
  *)
    exec "$@"
    ;;
esac
