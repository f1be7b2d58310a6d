# Everything that a person does with the sources. `make help` lists it.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

GO        ?= go
ARGS      ?=
PACKAGES  ?= ./...
# The race detector needs cgo and a C compiler; without one the tests run without it, and say so.
RACE      ?= $(shell command -v $$($(GO) env CC) >/dev/null 2>&1 && echo -race)
TIMEOUT   ?= 20m
SEEDS     ?= 200
DURATION  ?= 10m
FUZZTIME  ?= 20s
LINT_MOD  := golangci-lint.mod
LINT      := $(GO) tool -modfile=$(LINT_MOD) golangci-lint

.PHONY: help
help: ## list what make can do
	@awk -F':.*## ' '/^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# The binary is built without cgo, so that Go is all that it takes.
.PHONY: build
build: ## build bin/antipode
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/antipode ./cmd/antipode

.PHONY: up
up: build ## start every region of the spec on this machine (ARGS="--wan off" and the like)
	@exec bin/antipode up $(ARGS)

.PHONY: test
test: clients ## vet, then all tests under the race detector
	@[ -n "$(RACE)" ] || echo "make test: no C compiler, so the tests run WITHOUT the race detector; install gcc for it"
	$(GO) vet $(PACKAGES)
	$(GO) test $(RACE) -timeout $(TIMEOUT) $(PACKAGES)

# Some tests talk to a region with clients that others wrote. Without them those tests skip, and say why.
.PHONY: clients
clients:
	@missing=""; \
	command -v aws >/dev/null 2>&1 || missing="$$missing awscli"; \
	python3 -c 'import boto3' >/dev/null 2>&1 || missing="$$missing python3-boto3"; \
	if [ -z "$$missing" ]; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then \
		echo "make test: installing$$missing"; \
		{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing; } >/dev/null 2>&1 && exit 0; \
	fi; \
	echo "make test: SKIPPING the tests that need$$missing (not installed here, and this user can't install it)"

.PHONY: lint
lint: ## golangci-lint with the house rules, formatting included (the first build takes minutes)
	$(GO) vet $(PACKAGES)
	$(LINT) run $(PACKAGES)
	@diff="$$($(LINT) fmt --diff)" && [ -z "$$diff" ] || { echo "$$diff"; echo "make lint: not formatted; run make fmt"; exit 1; }

.PHONY: fmt
fmt: ## format all sources (gofumpt, then import groups)
	$(LINT) fmt

.PHONY: soak
soak: ## the simulator, the protocol model and the properties of plan at length (SEEDS=200 DURATION=10m)
	ANTIPODE_SOAK=1 SEEDS=$(SEEDS) DURATION=$(DURATION) $(GO) test $(RACE) -count=1 -v -timeout 0 ./internal/sim
	ANTIPODE_SOAK=1 $(GO) test -count=1 -v -timeout 0 ./internal/sim/model # the race detector makes it ten times slower
	ANTIPODE_SOAK=1 $(GO) test -count=1 -timeout 0 -run 'TestAdviceHolds|TestStricter' ./internal/ops/plan -rapid.checks=$$(( $(SEEDS) * 20 ))

# go test fuzzes one target at a time, so find them all and take turns.
.PHONY: fuzz
fuzz: ## run every fuzz target (FUZZTIME=20s each)
	@found=0; failed=""; \
	while IFS=: read -r file target; do \
		found=$$((found + 1)); dir=$$(dirname "$$file"); \
		echo "== $$dir $$target"; \
		$(GO) test -run='^$$' -fuzz="^$$target\$$" -fuzztime=$(FUZZTIME) "$$dir" || failed="$$failed $$dir:$$target"; \
	done < <(grep -rHoE --include='*_test.go' '^func Fuzz[A-Za-z0-9_]*' . | sed 's/:func /:/' | sort); \
	echo "$$found fuzz targets"; \
	[ -z "$$failed" ] || { echo "failed:$$failed"; exit 1; }

.PHONY: bench
bench: build ## antipode beside PostgreSQL and Redis on this machine, in one table
	bench/compare.sh

.PHONY: profile
profile: build ## take the profile that builds are optimised by anew, in cmd/antipode/default.pgo
	bench/profile.sh

.PHONY: clean
clean: ## remove what was built (the data of make up stays: rm -r .antipode)
	rm -rf bin
	find . -name '*.test' -o -name '*.prof' | xargs -r rm -f
