#!/bin/sh
# Installs what cordon needs from Debian's or Ubuntu's packages, only what is
# missing: "build" for the program, "test" also what its tests use, "torch2" what
# the tests against the newest PyTorch use, "peers" what benchmarks against it use.
set -eu

group=${1:-build}
wanted="libtorch-dev:PyTorch's C++ library, which computes
libdnnl-dev:fast matrix products for small images
libopenblas0-openmp:fast matrix products for it
g++:compiles the engine
make:runs the build"
if [ "$group" = test ]; then
	wanted="$wanted
python3-torch:the reference that parity tests compare with
python3-torchvision:the reference networks
python3-numpy:writes the parity fixtures
chromium:shows the HTML report to its test
xz-utils:unpacks the test data"
fi
if [ "$group" = torch2 ]; then
	wanted="$wanted
python3-venv:holds the newest PyTorch apart from the system's
binutils:reads what that PyTorch links"
fi
if [ "$group" = peers ]; then
	wanted="$wanted
python3-venv:holds the newest PyTorch apart from the system's
python3-dev:headers for what its compiler generates"
fi

have() { dpkg-query -W -f '${db:Status-Status}\n' "$1" 2>/dev/null | grep -qx installed; }

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
	echo "deps: no apt here; these must be there already:"
	echo "$wanted" | sed 's/^\([^:]*\):/  \1  /'
	exit 0
fi

missing=
while IFS=: read -r package why; do
	have "$package" && continue
	[ -n "$missing" ] || echo "deps: installing with apt-get:"
	echo "  $package  $why"
	missing="$missing $package"
done <<END
$wanted
END
if [ -z "$missing" ]; then
	echo "deps: everything is installed"
	exit 0
fi

as_root=
if [ "$(id -u)" -ne 0 ]; then
	if ! command -v sudo >/dev/null; then
		echo "deps: installing needs root and there is no sudo; run as root: apt-get install$missing" >&2
		exit 1
	fi
	echo "deps: this needs root, so it runs under sudo"
	as_root=sudo
fi
$as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq
# shellcheck disable=SC2086 # a list of packages
$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing
