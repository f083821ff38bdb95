#!/bin/sh
# Poisons MNIST, cleans it, and compares the result with the truth. Stopped at
# any point, it continues when run again. "full" takes all training images.
set -eu

cordon=bin/cordon
mnist=${XDG_CACHE_HOME:-$HOME/.cache}/cordon/data/mnist
poisoned=demo/poisoned
truth=$poisoned.truth.json
if [ "${1:-}" = full ]; then
	run=demo/run-full recipe=recipes/demo-full.toml
	extent="all 60,000 training images; about an hour on two cores, an estimate follows"
else
	run=demo/run recipe=recipes/demo.toml
	extent="a sample of $(sed -n 's/^sample *= *\([0-9]*\).*/\1/p' $recipe) training images; a few minutes on two cores, an estimate follows"
fi
table=$run.table.txt

if [ -f "$table" ]; then
	echo "demo: finished before; remove $run and $table to run it again"
	echo
	cat "$table"
	exit 0
fi

cat <<END
demo: this will
  1. fetch MNIST (12 MB, into $mnist) and verify it
  2. poison 10 % of its training images with BadNets, target class 3
  3. clean it with the recipe $recipe: $extent
  4. compare the result with the truth, which step 3 never sees
Stop it with Ctrl-C at any time: the same command continues.

END

echo "demo 1/4: MNIST"
sh scripts/fetch-mnist.sh "$mnist"

echo "demo 2/4: poison"
mkdir -p demo
if [ -d "$poisoned" ]; then
	echo "$poisoned is there already"
else
	rm -f "$truth" demo/preview.png
	$cordon poison "$mnist" -o "$poisoned" --attack badnets --rate 0.1 --target 3 --preview demo/preview.png
fi

echo "demo 3/4: clean"
if [ -f "$run/report.json" ]; then
	echo "$run is there already"
else
	$cordon clean "$poisoned" -o "$run" --recipe "$recipe" >"$run.log" || {
		status=$?
		[ $status -eq 130 ] || echo "demo: to start over, remove $run" >&2
		exit $status
	}
fi

echo "demo 4/4: compare with the truth"
$cordon eval "$run" "$poisoned" --truth "$truth" >"$table.tmp"
mv "$table.tmp" "$table"
echo
cat "$table"
echo "isolated  $run/isolated.csv"
echo "preview   demo/preview.png"
