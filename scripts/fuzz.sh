#!/bin/sh
# Runs every fuzz target for $1 (such as 5m) each. Go would spend up to a minute on
# making each new input shorter.
set -eu

time=${1:-5m}
go list ./... | while read -r package; do
	for target in $(go test -list '^Fuzz' "$package" | grep '^Fuzz' || true); do
		echo "fuzz: $package $target for $time"
		go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" -fuzzminimizetime 5s "$package"
	done
done
