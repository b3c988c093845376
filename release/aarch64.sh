#!/usr/bin/env bash
# The aarch64 wheel on another processor: installed beside a Python and a JAX of aarch64 that nothing here is
# changed for, and run by qemu. On Debian, after apt-get install qemu-user:
#
#   release/aarch64.sh dist/*_aarch64.whl build/aarch64 release/smoke.py kernels
set -euo pipefail
wheel=$(realpath "$1") folder=$2
shift 2
pip=$(dirname "$0")/../build/release/bin/pip
root=$folder/root site=$folder/site apt=$folder/apt

# Debian's packages of aarch64, unpacked and not installed. An empty list of what is installed brings the
# C library too.
rm -rf "$folder"
mkdir -p "$root" "$apt"/lists/partial "$apt"/archives/partial
as_aarch64=(apt-get -qq -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o Dir::State::status=/dev/null
  -o "Dir::State::Lists=$(realpath "$apt")/lists" -o "Dir::Cache=$(realpath "$apt")" -o Debug::NoLocking=1)
"${as_aarch64[@]}" update
"${as_aarch64[@]}" install --yes --no-install-recommends --download-only python3 libstdc++6 > /dev/null
for package in "$apt"/archives/*.deb; do
  dpkg --extract "$package" "$root"
done
python=$(realpath "$root/usr/bin/python3")

version=$(QEMU_LD_PREFIX=$root qemu-aarch64 "$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
platforms=()
for glibc in 2_28 2_27 2_17; do
  platforms+=(--platform "manylinux_${glibc}_aarch64")
done
"$pip" install -q --target "$site" --only-binary :all: "${platforms[@]}" --platform manylinux2014_aarch64 \
  --python-version "$version" --implementation cp "$wheel" jax==0.7.2 jaxlib==0.7.2
QEMU_LD_PREFIX=$root PYTHONPATH=$site qemu-aarch64 "$python" "$@"
