#!/bin/sh
# Lays down the ONNX Runtime library, taken out of the PyPI wheel `onnxruntime`.
#
#   scripts/fetch-onnxruntime.sh [DEST]      DEST defaults to target/onnxruntime
#
# Does nothing when DEST holds a library already. Needs python3 with pip; builds and installs nothing.
set -eu

version=1.31.1
# Of onnxruntime/capi/libonnxruntime.so.1.31.1 in the manylinux_2_28_x86_64 wheels.
linux_x86_64_sha256=fc44112fbe06d7d689c57e11d3862031f64711007e4ee020f8eed5185fd2c1d3

dest=${1:-$(dirname "$0")/../target/onnxruntime}

case "$(uname -s)" in
    Darwin) library=libonnxruntime.dylib ;;
    *) library=libonnxruntime.so ;;
esac

if [ -s "$dest/$library" ]; then
    echo "$dest/$library is there already"
    exit 0
fi

command -v python3 >/dev/null || { echo "python3 is needed to fetch ONNX Runtime" >&2; exit 1; }

case "$(uname -s)-$(uname -m)" in
    Linux-x86_64) platform=manylinux_2_28_x86_64 ;;
    Linux-aarch64 | Linux-arm64) platform=manylinux_2_28_aarch64 ;;
    Darwin-arm64) platform=macosx_14_0_arm64 ;;
    *) platform= ;;
esac

mkdir -p "$dest"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

fetch() {
    python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: \
        --dest "$work" "$@" "onnxruntime==$version"
}

# A Python without a wheel of its own takes another's: the library inside is the same.
if ! fetch 2>"$work/log"; then
    if [ -z "$platform" ]; then
        cat "$work/log" >&2
        echo "no wheel of onnxruntime $version for $(uname -s) $(uname -m); set onnx.library to a library of your own" >&2
        exit 1
    fi
    fetch --python-version 3.11 --implementation cp --platform "$platform"
fi

# Written beside the goal and renamed, so that an interrupted run leaves no half a library.
python3 - "$work" "$dest/$library.part" <<'PYTHON'
import glob, re, shutil, sys, zipfile

work, goal = sys.argv[1:]
[wheel] = glob.glob(work + "/*.whl")
with zipfile.ZipFile(wheel) as files:
    wanted = re.compile(r"onnxruntime/capi/libonnxruntime\.(so\.[0-9.]+|[0-9.]+\.dylib|dylib|so)$")
    names = [name for name in files.namelist() if wanted.fullmatch(name)]
    if len(names) != 1:
        sys.exit(f"expected one library in {wheel}, found {names}")
    with files.open(names[0]) as source, open(goal, "wb") as sink:
        shutil.copyfileobj(source, sink)
PYTHON

if [ "$(uname -s)-$(uname -m)" = Linux-x86_64 ]; then
    found=$(python3 -c 'import hashlib, sys; print(hashlib.sha256(open(sys.argv[1], "rb").read()).hexdigest())' "$dest/$library.part")
    if [ "$found" != "$linux_x86_64_sha256" ]; then
        rm -f "$dest/$library.part"
        echo "the library has sha256 $found, expected $linux_x86_64_sha256; not kept" >&2
        exit 1
    fi
fi

mv "$dest/$library.part" "$dest/$library"
echo "$dest/$library: ONNX Runtime $version"
