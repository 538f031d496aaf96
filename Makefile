# Plain make. Needs Go 1.26; what else a target can use is used when it is there
# and otherwise skipped with one line (`make full` makes a skip a failure).

GO       ?= go
BINARY   := etcd-forensics
BUILD    := build
FUZZTIME ?= 2m
MUTATIONS ?= 10000
JOBS     ?= 2
SCALE    ?= $(BUILD)/scale
PLATFORMS ?= linux/amd64 linux/arm64 darwin/amd64 darwin/arm64 windows/amd64
# What builds the image, and for which machine.
BUILDER  ?= $(firstword $(foreach builder,buildah podman docker,$(shell command -v $(builder) 2>/dev/null)))
IMAGE    ?= $(BINARY)
IMAGE_ARCH ?= $(shell $(GO) env GOARCH)
VERSION  ?= $(shell git describe --tags --match 'v*' 2>/dev/null || echo v0.0.0)
EPOCH    := $(shell git log -1 --format=%ct 2>/dev/null || echo 0)
READERS  := ./walreader ./walreader/raftlog ./walreader/snapfile ./snapdb ./snapdb/page ./snapdb/scan ./snapdb/keyspace ./snapdb/kube
# Where goroutines of ours share anything.
PARALLEL := ./snapdb/... ./inspect ./inspect/backup ./inspect/query ./inspect/rehearse ./inspect/source ./walreader/... ./cmd/...
# skip prints why something is left out; FULL=1 makes that a failure.
skip      = { echo "skipped: $(1)"; [ -z "$(FULL)" ]; }

.DEFAULT_GOAL := build

help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

build: ## the static binary
	CGO_ENABLED=0 $(GO) build -trimpath -o $(BINARY) ./cmd/etcd-forensics

man: ## man pages of every command, in build/man
	@rm -rf $(BUILD)/man
	SOURCE_DATE_EPOCH=$(EPOCH) $(GO) run ./cmd/etcd-forensics/internal/manpages $(BUILD)/man
	gzip -9n $(BUILD)/man/*.1

completions: build ## completions for bash, zsh and fish, in build/completions
	@mkdir -p $(BUILD)/completions
	./$(BINARY) completion bash >$(BUILD)/completions/$(BINARY).bash
	./$(BINARY) completion zsh >$(BUILD)/completions/_$(BINARY)
	./$(BINARY) completion fish >$(BUILD)/completions/$(BINARY).fish

release: man completions ## static binaries, packages, checksums and a list of what is inside, in build/release
	@rm -rf $(BUILD)/release && mkdir -p $(BUILD)/release
	@for platform in $(PLATFORMS); do \
		os=$${platform%/*} arch=$${platform#*/} ext=; [ $$os != windows ] || ext=.exe; \
		echo "$$os/$$arch"; \
		CGO_ENABLED=0 GOOS=$$os GOARCH=$$arch $(GO) build -trimpath -buildvcs=auto -ldflags '-s -w' \
			-o $(BUILD)/release/$(BINARY)-$$os-$$arch$$ext ./cmd/etcd-forensics || exit 1; \
	done
	@cd .ci/tools/nfpm && $(GO) build -o $(abspath $(BUILD))/ github.com/goreleaser/nfpm/v2/cmd/nfpm
	@for arch in amd64 arm64; do for kind in deb rpm; do \
		SOURCE_DATE_EPOCH=$(EPOCH) ARCH=$$arch VERSION=$(VERSION) BIN=$(BINARY)-linux-$$arch \
			$(BUILD)/nfpm package -f .ci/nfpm.yaml -p $$kind -t $(BUILD)/release/ || exit 1; \
	done; done
	@cd .ci/tools/syft && $(GO) build -o $(abspath $(BUILD))/ github.com/anchore/syft/cmd/syft
	SYFT_CHECK_FOR_APP_UPDATE=false $(BUILD)/syft -q file:$(BUILD)/release/$(BINARY)-linux-amd64 -o spdx-json=$(BUILD)/release/$(BINARY).spdx.json
	@# syft takes the time of the run and a random name, by which no two lists would be the same.
	@sum=$$(sha256sum <$(BUILD)/release/$(BINARY)-linux-amd64 | cut -c1-32) && \
		sed -e "s|\"created\": *\"[^\"]*\"|\"created\":\"$$(date -u -d @$(EPOCH) +%Y-%m-%dT%H:%M:%SZ)\"|" \
			-e "s|\(\"documentNamespace\": *\"[^\"]*-linux-amd64-\)[0-9a-f-]*\"|\1$$sum\"|" \
			$(BUILD)/release/$(BINARY).spdx.json >$(BUILD)/spdx.json && mv $(BUILD)/spdx.json $(BUILD)/release/$(BINARY).spdx.json
	cd $(BUILD)/release && sha256sum * >SHA256SUMS

image: ## a container image from scratch with the program of build/release, by buildah, podman or docker
	@test -n "$(BUILDER)" || { echo "buildah, podman or docker is needed"; exit 1; }
	@test -f $(BUILD)/release/$(BINARY)-linux-$(IMAGE_ARCH) || $(MAKE) release
	@rm -rf $(BUILD)/image && mkdir -p $(BUILD)/image/tmp && cp $(BUILD)/release/$(BINARY)-linux-$(IMAGE_ARCH) $(BUILD)/image
	SOURCE_DATE_EPOCH=$(EPOCH) $(BUILDER) build $(if $(findstring docker,$(BUILDER)),,--timestamp $(EPOCH)) \
		--platform linux/$(IMAGE_ARCH) -f .ci/Dockerfile -t $(IMAGE) $(BUILD)/image

release-check: release ## hold the release against what it should be, and make it again
	.ci/release-check

demo: build ## unpack a real cluster of three that crashed, and inspect it
	@rm -rf $(BUILD)/demo
	@$(GO) run ./fixtures/unpack cluster3-3.7-crash $(BUILD)/demo
	./$(BINARY) inspect $(BUILD)/demo

test: ## all tests
	$(GO) test -timeout 20m ./...

lint: ## format, vet for every system of the release, tidy
	@test -z "$$(gofmt -l .)" || { gofmt -l .; echo "run gofmt"; exit 1; }
	$(GO) vet ./...
	GOOS=darwin $(GO) vet ./...
	GOOS=windows $(GO) vet ./...
	$(GO) mod tidy -diff

race: ## the tests of everything that runs in parallel, with the race detector
	@if command -v $${CC:-cc} >/dev/null 2>&1; then \
		echo $(GO) test -race -short; CGO_ENABLED=1 $(GO) test -race -short -timeout 20m $(PARALLEL) && \
		CGO_ENABLED=1 $(GO) test -race -short -run 'Ahead|Stale|Salvage|Statement|Passed' ./inspect/recover; \
	else $(call skip,the race detector needs a C compiler); fi

small: ## the readers with 32-bit int, where offset arithmetic breaks first
	GOARCH=386 $(GO) test -short $(READERS)

verify: lint test race small ## everything a change must pass

bench: ## Go benchmarks; compare two runs with benchstat
	$(GO) test -run '^$$' -bench . -benchmem ./...

bench-scale: ## ratios to SHA-256, bbolt, etcdutl and etcd-dump-logs on large stores and a large log, which are built once
	@for store in "kubernetes" "kubernetes-uncompacted -compact=false" "small -small" "small-uncompacted -small -compact=false"; do \
		set -- $$store; dir=$(abspath $(SCALE))/$$1; shift; \
		test -f $$dir/snapshot.db || (cd fixtures/gen/scale && $(GO) run . "$$@" $$dir) || exit 1; \
	done
	test -d $(abspath $(SCALE))/log/m1 || (cd fixtures/gen/scale && $(GO) run . -log $(abspath $(SCALE))/log)
	cd fixtures/gen/dumplogs && $(GO) build -o $(abspath $(BUILD))/ go.etcd.io/etcd/v3/tools/etcd-dump-logs
	ETCD_FORENSICS_SCALE=$(abspath $(SCALE)) ETCD_DUMP_LOGS=$(abspath $(BUILD))/etcd-dump-logs \
		$(GO) test -run '^$$' -bench '^BenchmarkScale' -benchtime 1x -timeout 60m ./inspect

mutants: ## twenty injured copies of each kind, databases and logs, judged and salvaged
	MUTANTS=20 $(GO) test ./inspect ./inspect/recover -run 'Mutants|Every|Stale' -v -timeout 60m

storm: ## MUTATIONS damaged copies of evidence of every kind through every command but rehearse, JOBS at once
	$(GO) test -c -o $(BUILD)/storm.test ./cmd/etcd-forensics/internal/cli
	cd cmd/etcd-forensics/internal/cli && seq 0 $$(($(JOBS) - 1)) | GOGC=400 xargs -P $(JOBS) -I{} nice $(abspath $(BUILD))/storm.test \
		-test.run '^TestStorm$$' -test.v -mutations $(MUTATIONS) -first {} -stride $(JOBS) -keep $(abspath $(BUILD))/storm

fuzz: ## every fuzz target, FUZZTIME each
	@for pkg in $$($(GO) list ./...); do \
		for target in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz'); do \
			echo "$$pkg $$target"; $(GO) test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 1x $$pkg || exit 1; \
		done; \
	done

fixtures: ## make the stored evidence anew, with real servers
	sh fixtures/gen/make.sh

versions: ## start the servers of 3.4 to 3.8 on every fixture, compare with what is recorded, and run plans' scripts with each (half an hour; needs etcd 3.4)
	@if command -v etcd >/dev/null 2>&1; then \
		(cd fixtures/gen && $(GO) run ./startup -check ../../inspect/testdata/startup.json) && \
		PLAN_LIVE_VERSIONS=3.4,3.5,3.6,3.7 $(GO) test -run ScriptsRestoreWithRealEtcd -count 1 ./cmd/etcd-forensics/internal/cli; \
	else $(call skip,starts of every version need an etcd 3.4 binary); fi

golden: ## rewrite the golden files; the diff is part of the change
	$(GO) test ./report -update

picture: ## take the documents' picture of the HTML report, docs/report.png, anew (needs chromium)
	$(GO) test ./report -run PictureOfTheReport -count 1 -picture $(abspath docs/report.png)

tools: ## install what the optional steps use (Debian)
	apt-get update -q && apt-get install -q -y --no-install-recommends gcc libc6-dev etcd-server etcd-client shellcheck chromium

release-tools: tools ## install what release-check uses (Debian)
	apt-get install -q -y --no-install-recommends file lintian rpm qemu-user-static wine64 gcc-mingw-w64-x86-64 gcc-aarch64-linux-gnu libc6-dev-arm64-cross buildah

full: ## verify, and a skip is a failure
	$(MAKE) verify FULL=1

clean: ## remove what was built
	rm -rf $(BUILD) $(BINARY)

.PHONY: help build man completions release image release-check demo test lint race small verify bench bench-scale mutants storm fuzz fixtures versions golden picture tools release-tools full clean
