# make          builds the engine and the program into bin/
# make demo     poisons MNIST, cleans it and shows that it worked
# make test     everything needed to trust the build
# make help     lists all targets

.DEFAULT_GOAL := all
export CGO_ENABLED := 0
# Idle threads sleep soon: longer spinning is what a busy machine suffers from.
export GOMP_SPINCOUNT ?= 30000

TORCH    ?=
BUILT_ON := $(TORCH) $(wildcard /usr/include/dnnl.hpp)
OUT      ?= bin
ROUNDS   ?= 5
ROWS     ?=
PEERS    := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/cordon/peers
PEER     ?= $(PEERS)/bin/python
FUZZTIME ?= 5m
VERSION  := $(shell git describe --always --dirty --tags 2>/dev/null)
PROGRAM  := bin/cordon
LIBRARY  := $(abspath $(OUT))/libcordon_engine.so

.PHONY: all help build engine deps test-deps test lint demo demo-full fuzz parity test-ops bench bench-peers bench-go curves test-torch2 clean

all: engine build ## the engine and the program

help: ## this list
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1\t/p' Makefile | expand -t 14

build: ## the program: bin/cordon
	@echo "build: the program $(PROGRAM)"
	@go build -trimpath -ldflags "-s -w $(if $(VERSION),-X cordon.Version=$(VERSION))" -o $(PROGRAM) ./cmd/cordon

# Another TORCH than last time, or oneDNN come or gone, rebuilds everything. With TORCH the library only
# works where that folder stays.
engine: ## the engine library, beside the program (TORCH=DIR: another libtorch, OUT=DIR: another place)
	@echo "engine: the library $(OUT)/libcordon_engine.so"
	@mkdir -p $(OUT) build
	@if [ "$$(cat build/engine-torch 2>/dev/null)" != "$(BUILT_ON)" ]; then rm -rf build/obj $(LIBRARY); fi
	@echo "$(BUILT_ON)" >build/engine-torch
	@$(MAKE) --no-print-directory -C engine TORCH=$(TORCH) OUT=$(abspath $(OUT)) OBJDIR=$(abspath build/obj)

deps: ## Debian packages that the build needs
	@sh scripts/install-deps.sh build

test-deps:
	@sh scripts/install-deps.sh test

lint: ## gofmt, go vet, staticcheck
	@echo "lint: gofmt, go vet, staticcheck"
	@files=$$(gofmt -l .); \
		if [ -n "$$files" ]; then echo "gofmt: not formatted:" $$files; exit 1; fi
	@go vet ./...
	@go tool staticcheck ./...

test-ops: test-deps engine ## the engine's own operators, with every kind of vectors that the processor has
	@$(MAKE) --no-print-directory -C engine TORCH=$(TORCH) OUT=$(abspath build) OBJDIR=$(abspath build/obj) build-ops
	@for isa in basic avx2 avx512 avx512_bf16 amx; do CORDON_FORCE_ISA=$$isa build/ops_test || exit 1; done
	@DNNL_MAX_CPU_ISA=ALL ONEDNN_MAX_CPU_ISA=AVX2 build/ops_test # oneDNN's own switch; it reads this name first

test: test-deps engine build lint test-ops ## everything needed to trust the build
	@data=$$(sh scripts/test-data.sh) && echo "test: go test ./..., data in $$data" && \
		CORDON_DATA=$$data CORDON_ENGINE=$(LIBRARY) CORDON_REQUIRE_ENGINE=1 CORDON_REQUIRE_PYTHON=1 \
		go test -timeout 15m -p 1 ./...
	@echo "test: whole networks as on lesser processors"
	@for isa in basic avx2 avx512 avx512_bf16; do CORDON_FORCE_ISA=$$isa CORDON_ENGINE=$(LIBRARY) CORDON_REQUIRE_ENGINE=1 \
		go test -timeout 15m -p 1 -count=1 -run 'MatchesPyTorch|BF16|Steps|SeedDecides' ./internal/nn ./internal/train || \
		{ echo "test: with CORDON_FORCE_ISA=$$isa"; exit 1; }; done

parity: test-deps engine ## writes the fixtures anew with PyTorch and compares with them
	@echo "parity: fixtures by /usr/bin/python3 into build/parity, then the tests against them"
	@mkdir -p build/parity
	@/usr/bin/python3 tools/parity/nn.py build/parity
	@/usr/bin/python3 tools/parity/train.py build/parity
	@/usr/bin/python3 tools/parity/triggers.py build/parity
	@CORDON_FIXTURES=$(abspath build/parity) CORDON_ENGINE=$(LIBRARY) CORDON_REQUIRE_ENGINE=1 CORDON_REQUIRE_PYTHON=1 \
		go test -count=1 -p 1 ./attack ./internal/torch ./internal/nn ./internal/train

bench: test-deps engine ## speed against the best PyTorch, into docs/results/cpu.md (ROWS="resnet50 data": only prints; ROUNDS; EAGER=1: no compiled PyTorch)
	@CORDON_ENGINE=$(LIBRARY) go run ./tools/cpubench -rounds $(ROUNDS) -newest $(PEER) $(if $(EAGER),-eager) \
		$(if $(ROWS),-rows "$(ROWS)",-write docs/results/cpu.md)

bench-peers: ## the newest PyTorch and torchvision for bench, about 3 GB in ~/.cache/cordon/peers
	@sh scripts/install-deps.sh peers
	@sh tools/cpubench/peers.sh $(PEERS)

bench-go: test-deps engine ## Go benchmarks
	@data=$$(sh scripts/test-data.sh) && \
		CORDON_DATA=$$data CORDON_ENGINE=$(LIBRARY) go test -p 1 -run '^$$' -bench . -benchmem ./...

curves: test-deps engine ## about 25 minutes: three epochs on CIFAR-10 with cordon's operators and with ATen's convolutions
	@$(MAKE) --no-print-directory -C engine TORCH=$(TORCH) ONEDNN= OUT=$(abspath build/aten)
	@data=$$(sh scripts/test-data.sh)/cifar10 && go test -c -o build/train.test ./internal/train && \
		for library in $(LIBRARY) $(abspath build/aten)/libcordon_engine.so; do \
			echo "curves: $$library"; \
			CORDON_ENGINE=$$library CORDON_REQUIRE_ENGINE=1 build/train.test -test.v -test.run TestCurves -arch resnet18 \
				-curves $$data -curves-seed $(or $(SEED),0) || exit 1; \
		done

fuzz: ## every parser's fuzz target, FUZZTIME each
	@sh scripts/fuzz.sh $(FUZZTIME)

test-torch2: ## engine and parity tests against the newest PyTorch
	@sh scripts/install-deps.sh torch2
	@sh tools/torch2.sh

demo: deps engine build ## a few minutes: poison a sample of MNIST, clean it, evaluate
	@sh scripts/demo.sh

demo-full: deps engine build ## the same on all of MNIST: about an hour
	@sh scripts/demo.sh full

clean: ## removes what was built; keeps demo/
	rm -rf bin build
