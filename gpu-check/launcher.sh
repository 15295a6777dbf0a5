#!/bin/sh
# The archive's gpu-check: starts the program with what the archive brought. Needs glibc 2.36 or newer and an NVIDIA driver; cuBLASLt is looked for as
# INTERNVL_CUDA_LIBRARIES, an installed toolkit or python3's nvidia packages have it.
here=$(cd "$(dirname "$0")" && pwd)
libraries=$here/lib
# The system's own, where it has one: it may be newer than ours.
case $(ldconfig -p 2>/dev/null || /sbin/ldconfig -p 2>/dev/null) in
  *libstdc++.so.6*) ;;
  *) libraries=$libraries:$here/lib/without-system ;;
esac
export LD_LIBRARY_PATH="$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
exec "$here/node" --disable-warning=ExperimentalWarning "$here/gpu-check-program/gpu-check/main.js" "$@"
