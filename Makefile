# Everything a developer runs. Bare `make` lists the targets.

SHELL := /bin/bash
GO ?= go
export CGO_ENABLED = 0
BASE_VERSION := 0.1.0
# The commit's date in UTC comes first, so that a later commit is a later version for dpkg and rpm.
VERSION := $(BASE_VERSION)$(shell TZ=UTC git log -1 --abbrev=9 --date=format-local:%Y%m%d%H%M%S --format=+%cd.%h 2>/dev/null)
LDFLAGS := -s -w -X main.version=$(VERSION)
TOOLS := bin/tools

.DEFAULT_GOAL := help
.PHONY: help build check test test-unit test-e2e test-kernel bench demo demo-down image package fuzz tools deps clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## build both programs into bin/
	@mkdir -p bin
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/ ./agent ./coordinator
	@mv bin/agent bin/reeve-agent && mv bin/coordinator bin/reeve-coordinator

tools: $(TOOLS)/nfpm $(TOOLS)/staticcheck $(TOOLS)/govulncheck
$(TOOLS)/nfpm: packaging/tools/go.mod
	@mkdir -p $(TOOLS)
	cd packaging/tools && $(GO) build -trimpath -o ../../$@ github.com/goreleaser/nfpm/v2/cmd/nfpm
$(TOOLS)/staticcheck: packaging/tools/go.mod
	@mkdir -p $(TOOLS)
	cd packaging/tools && $(GO) build -trimpath -o ../../$@ honnef.co/go/tools/cmd/staticcheck
$(TOOLS)/govulncheck: packaging/tools/go.mod
	@mkdir -p $(TOOLS)
	cd packaging/tools && $(GO) build -trimpath -o ../../$@ golang.org/x/vuln/cmd/govulncheck

check: tools ## format, vet, lint, import rules and race tests
	bash .ci/check

test: package ## everything: unit, conformance and end to end on booted hosts (needs root)
	bash .ci/test

test-kernel: ## lvm and raid on Debian's kernel in an emulated machine (slow, needs root once)
	bash .ci/kernel

test-unit: ## what needs no root, network or daemon
	$(GO) test ./...

bench: package ## measure against the bars of the design and rewrite docs/benchmarks.md (needs root)
	bash .ci/bench

package: build $(TOOLS)/nfpm ## build .deb and .rpm of both programs into dist/
	bash packaging/build $(VERSION)

image: package ## build the node image of the nspawn cloud, with progress (needs root)
	bin/reeve-coordinator image build --agent-package dist/reeve-agent.deb

demo: ## a PHP + MySQL instance on this machine, from nothing, in one command (needs root)
	@bash packaging/demo/up

demo-down: ## remove nodes, networks and data of the demo
	@bash packaging/demo/down

fuzz: ## fuzz every parser for 20 s each (FUZZTIME=…)
	bash .ci/fuzz

clean: ## remove what was built
	rm -rf bin dist
