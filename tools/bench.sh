#!/bin/sh
# Times training steps, Go against PyTorch, in turn: each process does 2 steps to
# warm up and 6 that count. Prints the median images per second of ROUNDS rounds
# and the ratio, one row for each network and precision. PyTorch gets the better
# of its two memory formats.
#
# Usage: CORDON_ENGINE=... tools/bench.sh
# Settings: ROUNDS (5), BATCH (128), SIZE (32), ARCHS ("resnet18 resnet50"),
# PRECISIONS ("fp32 bf16"), PEER (the Python with torch and torchvision,
# /usr/bin/python3)
set -eu
cd "$(dirname "$0")/.."

rounds=${ROUNDS:-5}
batch=${BATCH:-128}
size=${SIZE:-32}
archs=${ARCHS:-resnet18 resnet50}
precisions=${PRECISIONS:-fp32 bf16}
peer=${PEER:-/usr/bin/python3}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
go test -c -o "$work/step" ./internal/train

median() { sort -n "$1" | awk '{ v[NR] = $1 } END { print (v[int((NR + 1) / 2)] + v[int(NR / 2) + 1]) / 2 }'; }

go_step() { # arch precision
	CORDON_REQUIRE_ENGINE=1 "$work/step" -test.run '^$' -test.bench "Step/$1/$2\$" -test.benchtime 6x \
		-archs "$1" -batch "$batch" -size "$size" >"$work/out" 2>&1 || { cat "$work/out" >&2; exit 1; }
	awk '{ for (i = 2; i <= NF; i++) if ($i == "images/s") print $(i - 1) }' "$work/out"
}

printf '%-10s %-5s %10s %10s %10s %6s\n' network type go nhwc nchw ratio
for arch in $archs; do
	for precision in $precisions; do
		rm -f "$work"/*.times
		round=0
		while [ $round -lt "$rounds" ]; do
			go_step "$arch" "$precision" >>"$work/go.times"
			for format in channels_last contiguous; do
				"$peer" tools/parity/peer.py "$arch" "$batch" "$size" "$precision" --format $format >>"$work/$format.times"
			done
			round=$((round + 1))
		done
		printf '%s %s %s %s %s\n' "$arch" "$precision" \
			"$(median "$work/go.times")" "$(median "$work/channels_last.times")" "$(median "$work/contiguous.times")" |
			awk '{ best = $4 > $5 ? $4 : $5; printf "%-10s %-5s %10.1f %10.1f %10.1f %6.2f\n", $1, $2, $3, $4, $5, $3 / best }'
	done
done
