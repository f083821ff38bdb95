#!/bin/sh
# Installs the newest PyTorch and torchvision from PyPI into a virtual environment,
# for make bench. All of CUDA's libraries come along: torchvision does not import
# without them.
#
# Usage: peers.sh FOLDER
set -eu
folder=$1

if [ ! -x "$folder/bin/python" ]; then
	echo "bench-peers: a virtual environment in $folder"
	python3 -m venv "$folder"
fi
echo "bench-peers: the newest PyTorch and torchvision (the first time about 3 GB)"
"$folder/bin/python" -m pip install --quiet --upgrade torch torchvision
"$folder/bin/python" -c 'import torch, torchvision; print("bench-peers: PyTorch", torch.__version__)'
