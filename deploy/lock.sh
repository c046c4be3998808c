#!/usr/bin/env bash
# Pins every package that is installed, by version and by the hashes of its files: `make lock`.
# It needs uv, and takes uv's options, such as --upgrade.
#
#   requirements.lock        what a checkout installs, but for torch
#   requirements.cpu.lock    torch as its own index has it, without CUDA
#   requirements.cuda.lock   torch as PyPI has it, and what that needs for CUDA on Linux
#   deploy/images/*.lock     what each image installs, but for torch, at the same versions
set -euo pipefail
cd "$(dirname "$0")/.."
index=${INDEX:-https://download.pytorch.org/whl/cpu/torch/}
made=$(mktemp -d)
trap 'rm -rf "$made"' EXIT

# compile TO FROM...: the pins of what FROM asks for.
compile() {
  uv pip compile --output-file "$@" --universal --python-version=3.11 \
    --prerelease=if-necessary-or-explicit --generate-hashes --no-header --no-annotate --quiet
}
# Of a lock, torch and what it needs for CUDA (1) or all else (0), each package with its hashes.
packages() {
  awk -v wanted="$1" '/^[^ ]/ { is = /^(torch==|nvidia|cuda|triton)/ } is == wanted' "$2"
}

# The files of a version never change, so the index is asked for a new version only.
torch=$(grep -oP '"torch==\K[0-9.]+' pyproject.toml)
if ! grep -q "^torch==$torch+cpu " requirements.cpu.lock; then
  files="torch-$torch(%2B|\\+)cpu-cp31[1-3]-cp31[1-3]-(manylinux|win)"
  curl --fail --silent --show-error --location "$index" |
    grep -oP "${files}[^#]*#sha256=\\K[0-9a-f]{64}" | sort | sed 's/^/    --hash=sha256:/' \
    > "$made/cpu"
  { echo "torch==$torch+cpu" && cat "$made/cpu"; } | sed '$!s/$/ \\/' > requirements.cpu.lock
fi

cat requirements.lock requirements.cuda.lock > "$made/all"
compile "$made/all" pyproject.toml --extra=dev "$@"
packages 0 "$made/all" > requirements.lock
packages 1 "$made/all" > requirements.cuda.lock
for image in train serve; do
  compile "$made/$image" "deploy/images/$image.txt" --constraints="$made/all"
  packages 0 "$made/$image" > "deploy/images/$image.lock"
done
