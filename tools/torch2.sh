#!/bin/sh
# Installs the newest PyTorch into a cache folder outside the tree, builds the
# engine against it and runs the engine's, the networks' and the training tests.
#
# Of CUDA only the two small libraries that libtorch_cpu.so itself links are
# installed: the engine is then a CPU one.
set -eu
cd "$(dirname "$0")/.."

cache=${XDG_CACHE_HOME:-$HOME/.cache}/cordon/torch2
python=$cache/bin/python

if [ ! -x "$python" ]; then
	echo "test-torch2: a virtual environment in $cache"
	python3 -m venv "$cache"
fi
echo "test-torch2: the newest PyTorch (the first time about 550 MB)"
"$python" -m pip install --quiet --upgrade --no-deps torch

torch=$("$python" -c 'import importlib.util as u; print(u.find_spec("torch").submodule_search_locations[0])')
major=$(readelf -d "$torch/lib/libtorch_cpu.so" | sed -n 's/.*\[libcudart\.so\.\([0-9]*\).*\]/\1/p')
if [ -n "$major" ]; then
	next=$((major + 1))
	"$python" -m pip install --quiet --no-deps "nvidia-cuda-runtime>=$major,<$next" "nvidia-cuda-cupti>=$major,<$next"
fi
missing=$(ldd "$torch/lib/libtorch_cpu.so" | grep 'not found' || true)
if [ -n "$missing" ]; then
	echo "test-torch2: libtorch_cpu.so does not load:" >&2
	echo "$missing" >&2
	exit 1
fi

make --no-print-directory -C engine TORCH="$torch" OUT="$cache/engine"

# One package at a time, and waiting threads that sleep: two processes with
# spinning OpenMP threads on the same processors stand in each other's way.
OMP_WAIT_POLICY=passive CORDON_ENGINE=$cache/engine/libcordon_engine.so CORDON_REQUIRE_ENGINE=1 \
	go test -count=1 -p 1 ./internal/torch ./internal/nn ./internal/train
echo "test-torch2: the 20 steps, one by one"
OMP_WAIT_POLICY=passive CORDON_ENGINE=$cache/engine/libcordon_engine.so CORDON_REQUIRE_ENGINE=1 \
	go test -count=1 -v -run TwentySteps ./internal/nn
