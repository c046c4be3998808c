#!/usr/bin/env bash
# Pins every package that is installed, by version and by the hashes of its files: `make lock`.
# It needs uv, and takes uv's options, such as --upgrade.
#
#   requirements.lock        what a checkout installs
#   requirements.cuda.lock   what PyPI's build of torch needs beyond that, for CUDA
#   deploy/images/*.lock     what each image installs, at the same versions
#
# torch's CPU builds have the same version in an index of their own, and other files.
set -euo pipefail
cd "$(dirname "$0")/.."
index=${INDEX:-https://download.pytorch.org/whl/cpu/torch/}
made=$(mktemp -d)
trap 'rm -rf "$made"' EXIT

torch=$(grep -oP '"torch==\K[0-9.]+' pyproject.toml)
curl --fail --silent --show-error --location "$index" |
  grep -oP "torch-$torch(%2B|\\+)cpu-cp31[1-3]-cp31[1-3]-(manylinux|win)[^#]*#sha256=\\K[0-9a-f]{64}" |
  sort | sed 's/.*/    --hash=sha256:& \\/' > "$made/cpu"

# compile TO FROM...: the pins of what FROM asks for.
compile() {
  uv pip compile --output-file "$@" --universal --python-version=3.11 \
    --prerelease=if-necessary-or-explicit --generate-hashes --no-header --no-annotate --quiet
}
# Of a lock, the packages that only CUDA needs (1) or the others (0), each with its hashes.
packages() {
  awk -v cuda="$1" '/^[^ ]/ { is = /^(nvidia|cuda|triton)/ } is == cuda' "$2" |
    sed "/^torch==/r $made/cpu"
}

cat requirements.lock requirements.cuda.lock > "$made/all"
compile "$made/all" pyproject.toml --extra=dev "$@"
packages 0 "$made/all" > requirements.lock
packages 1 "$made/all" > requirements.cuda.lock
for image in train serve; do
  compile "$made/$image" "deploy/images/$image.txt" --constraints="$made/all"
  packages 0 "$made/$image" > "deploy/images/$image.lock"
done
