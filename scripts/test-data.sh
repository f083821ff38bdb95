#!/bin/sh
# Prints the folder that holds the test data: CORDON_DATA, or a cache that is
# filled once, from ../shared/data where that is, else with MNIST alone.
set -eu

if [ -n "${CORDON_DATA:-}" ]; then
	echo "$CORDON_DATA"
	exit 0
fi
here=$(cd "$(dirname "$0")" && pwd)
archives=$here/../../shared/data
cache=${XDG_CACHE_HOME:-$HOME/.cache}/cordon/test-data
mkdir -p "$cache"

# unpack ARCHIVE FOLDER: the folder appears complete or not at all.
unpack() {
	if [ -d "$cache/$2" ] || [ ! -f "$archives/$1" ]; then
		return
	fi
	echo "data: unpacking $1 into $cache" >&2
	tmp=$(mktemp -d "$cache/.unpack-XXXXXX")
	tar -C "$tmp" --no-same-owner -xf "$archives/$1"
	mv "$tmp/$2" "$cache/$2"
	rm -rf "$tmp"
}

unpack mnist.tar mnist
unpack cifar10-bin.tar.xz cifar10
unpack tsrd.tar.xz tsrd
"$here/fetch-mnist.sh" "$cache/mnist"
echo "$cache"
