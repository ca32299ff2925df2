# Sluice: what can be done with this tree. "make" alone prints the list.

GO      ?= go
TIME    ?= 10s
KEEP    ?= 0
# Of a package's tests: a busy machine needs several times what an idle one does.
TIMEOUT ?= 40m
PKG     ?= ./...
VERSION ?=

# Without the tree's path in them, what was built and tested in one clone serves another.
export GOFLAGS := $(strip $(filter-out -trimpath,$(GOFLAGS)) -trimpath)

LDFLAGS := $(if $(VERSION),-X main.stamped=$(VERSION))
# The packages that own state or parse what comes from outside.
CORE    := ./pool ./wsproto ./netpoll ./netpoll/tlsrecord ./cache ./fanout ./gateway $(addprefix ./internal/,owner owners proxyproto res state natsbus session config secret)
E2E     := internal/e2e
# What no program calls and yet stays, as deadcode prints it: the clock that tests of all packages advance.
FORTESTS := internal/owner/.*[Mm]anual(Clock|Alarm)

.DEFAULT_GOAL := help
.PHONY: help build demo example examples picture site test race alloc invariants lint fmt docs fuzz coverage bench e2e deps cross ci load compare soak soakshort simulate differential reliability scale interest relay resgate-table release packages package-test clean

help: ## print this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## build bin/sluice (VERSION=v1.2.3 stamps it)
	$(GO) build -ldflags '$(LDFLAGS)' -o bin/sluice ./cmd/sluice

demo: build ## build and run the demo (ARGS='--port 9000' adds settings)
	./bin/sluice demo $(ARGS)

example: examples ## run an example on http://localhost:8080/ (NAME=hello, books, chat, jwt, login, pages, presence, ticker or todo; ARGS='-port 9000')
	@test -n "$(NAME)" -a -x "bin/examples/$(NAME)" || { echo "Say which example: make example NAME=books. There are:" $$(ls bin/examples); exit 1; }
	./bin/examples/$(NAME) $(ARGS)

examples: ## build the examples and install their browser libraries
	@command -v npm >/dev/null || { echo "The examples' browser libraries come from npm: install Node 20 or later with npm."; exit 1; }
	$(GO) build -ldflags=-w -o bin/examples/ ./examples/...
	cd examples && npm ci --no-audit --no-fund --prefer-offline --ignore-scripts && npm run --silent build

test: ## run all tests: Go's, fuzz seeds included, then end to end (PKG=./internal/res/... runs a package's only)
	$(GO) test -timeout $(TIMEOUT) $(PKG)
ifeq ($(PKG),./...)
	@if command -v npm >/dev/null; then $(MAKE) --no-print-directory e2e; \
	else echo "Left out: the end-to-end tests with Node and real clients, since npm is not there (make deps installs it)."; fi
endif

# "lint" has vet run over all of it already.
race: ## run all Go tests under the race detector, but for the house rules, which "lint" holds
	$(GO) test -race -vet off -timeout $(TIMEOUT) $$($(GO) list $(PKG) | grep -v '/internal/archtest$$')

alloc: ## run the allocation tests, which the race detector would distort
	$(GO) test -vet off -run Alloc $$(grep -rlE --include='*_test.go' --exclude-dir=bin --exclude-dir=node_modules '^func Test\w*Alloc' . | xargs -n 1 dirname | sort -u)

invariants: ## test the core with its internal assertions compiled in
	$(GO) test -vet off -timeout $(TIMEOUT) -tags invariants $(CORE)

lint: ## check format, house rules, vet and staticcheck, and that programs call every function
	@out=$$(gofmt -l .) && test -z "$$out" || { echo "gofmt would change:"; echo "$$out"; exit 1; }
	$(GO) test ./internal/archtest
	$(GO) vet ./...
	$(GO) tool staticcheck ./...
	@found=$$($(GO) tool deadcode $$($(GO) list -f '{{if eq .Name "main"}}{{.ImportPath}}{{end}}' ./...)) || exit 1; \
	dead=$$(echo "$$found" | grep -vE '$(FORTESTS)'); \
	test -z "$$dead" || { echo "No program calls these functions: delete them, or move them to tests."; echo "$$dead"; exit 1; }

# CGO_ENABLED=0: nothing here needs a C compiler for these systems.
cross: ## check that the gateway builds elsewhere: macOS, FreeBSD, Linux on ARM
	@for system in darwin/arm64 freebsd/amd64 linux/arm64; do \
	  echo "== $$system"; \
	  CGO_ENABLED=0 GOOS=$${system%/*} GOARCH=$${system#*/} $(GO) vet ./... || exit 1; \
	done
	@for system in darwin/amd64 darwin/arm64 freebsd/amd64 linux/arm64; do \
	  CGO_ENABLED=0 GOOS=$${system%/*} GOARCH=$${system#*/} $(GO) build -o /dev/null ./cmd/sluice || exit 1; \
	done

fmt: ## format all Go files
	gofmt -w .

docs: ## write the settings into docs/configuration.md, the metrics into docs/observability.md, docs/websocket-cases.md
	$(GO) test -count 1 ./internal/config ./internal/collect -run 'TestDocs' -write-docs
	$(GO) test -count 1 ./netpoll -run 'TestAutobahn' -write-docs
	$(GO) test -count 1 ./loadtest/differential -run 'TestDocs' -write-docs

fuzz: ## fuzz all targets, each for TIME (10s; 5m: four hours); KEEP=30 keeps the 30 smallest inputs found for each
	@for dir in $$(grep -rl --include='*_test.go' --exclude-dir=node_modules '^func Fuzz' . | xargs -n 1 dirname | sort -u); do \
	  for target in $$(grep -ho '^func Fuzz[A-Za-z0-9_]*' $$dir/*_test.go | sed 's/func //'); do \
	    echo "== $$dir $$target"; \
	    $(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(TIME) $$dir || exit 1; \
	    found=$$($(GO) env GOCACHE)/fuzz/$$($(GO) list $$dir)/$$target; kept=$$dir/testdata/fuzz/$$target; \
	    for input in $$(ls -Sr $$found 2>/dev/null | head -n $(KEEP)); do mkdir -p $$kept && cp -n $$found/$$input $$kept/; done; \
	  done; \
	done

# Whose coverage counts, and the packages whose tests enter that code.
COVERED  := ./wsproto ./internal/res ./internal/session ./cache
COVERING := $(COVERED) ./fanout ./gateway $(addprefix ./internal/,restest simulation httpapi httpedge owners admin upstream)
comma    := ,
space    := $(subst ,, )

coverage: ## print which blocks of the core's code no test enters, and the share of the others (some minutes)
	rm -rf bin/coverage && mkdir -p bin/coverage
	$(GO) test -vet off -count 1 -timeout $(TIMEOUT) -cover -coverpkg $(subst $(space),$(comma),$(COVERED)) $(COVERING) -args -test.gocoverdir=$(CURDIR)/bin/coverage
	@$(GO) tool covdata textfmt -i bin/coverage -o bin/coverage/blocks
	@awk '$$NF == 0 { print $$1 }' bin/coverage/blocks | sort -V
	@$(GO) tool covdata percent -i bin/coverage

bench: ## run the benchmarks (PKG=./fanout narrows it)
	$(GO) test -run '^$$' -bench . -benchmem $(PKG)

e2e: build examples ## run the end-to-end tests with Node and real clients
	@command -v npm >/dev/null || { echo "The end-to-end tests need Node 20 or later with npm: install it (Debian: apt-get install nodejs npm), or leave them to CI."; exit 1; }
	cd $(E2E) && npm ci --no-audit --no-fund && npm test

picture: build ## make the README's moving picture of the demo (docs/images)
	cd $(E2E) && npm ci --no-audit --no-fund && node picture.js

site: ## make the documentation's static site in bin/site, and check its links
	cd docs/site && $(GO) vet . && $(GO) test . && $(GO) run .

# Programs and the Debian packages that have them. Packages of servers must not start them: policy-rc.d refuses that.
PROGRAMS := tmux=tmux nginx=nginx-light haproxy=haproxy caddy=caddy varnishd=varnish rpm=rpm zsh=zsh fish=fish systemd-analyze=systemd man=man-db ip=iproute2 buildah=buildah podman=podman crun=crun python3=python3

deps: ## install what the tests of end to end and of packages need, where apt-get and root allow it
	@missing=; \
	command -v npm >/dev/null || missing="$$missing nodejs npm"; \
	command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null || missing="$$missing chromium"; \
	command -v prometheus >/dev/null && command -v promtool >/dev/null || missing="$$missing prometheus"; \
	for p in $(PROGRAMS); do command -v $${p%=*} >/dev/null || missing="$$missing $${p#*=}"; done; \
	if [ -z "$$missing" ]; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  policy=/usr/sbin/policy-rc.d; \
	  if [ ! -e $$policy ]; then printf '#!/bin/sh\nexit 101\n' >$$policy && chmod 755 $$policy && trap 'rm -f '$$policy EXIT; fi; \
	  apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $$missing; \
	else \
	  echo "Missing for some tests:$$missing. Install it as root; without a browser the page's test is left out, without Prometheus that of the metrics, without a shell or proxy its own."; \
	fi

# Ordered so that what is quick and fails often comes first. "race" and "e2e" stand for "test".
ci: lint cross build alloc race invariants soakshort deps packages e2e site ## everything that .ci/run checks

load: build ## measure the gateway with the load harness (ARGS='-kind fanout -n 5000' chooses; see bin/sluice-load run -h)
	$(GO) build -o bin/sluice-load ./cmd/sluice-load
	./bin/sluice-load run -start './bin/sluice --embedded-nats --embedded-nats-listen 127.0.0.1:{nats} --addr 127.0.0.1 --port {port}' -name sluice -floor single $(if $(ARGS),$(ARGS),-kind fanout,idle,burst)

# What the results are named: those of a part do not replace those of the whole.
PLAN   ?= $(if $(QUICK),quick,compare)
RESULT ?= $(if $(QUICK),quick,$(if $(ARGS),part$(patsubst %,-%,$(filter-out compare,$(PLAN))),$(PLAN)))
WHOLE  := $(filter compare,$(RESULT))

compare: build ## compare with other gateways, report in bench/results (QUICK=1: less than five minutes; PLAN=second: other loads; PLAN=peers: Mercure and Socket.IO)
	$(GO) build -o bin/sluice-load ./cmd/sluice-load
	mkdir -p bin/peers
	cd bench/peers && $(GO) build -o ../../bin/peers/ github.com/resgateio/resgate github.com/nats-io/nats-server/v2
ifeq ($(PLAN),peers)
	@command -v npm >/dev/null || { echo "Socket.IO comes from npm: install Node 20 or later with npm (make deps installs both)."; exit 1; }
	cd bench/peers/mercure && $(GO) build -o ../../../bin/peers/mercure github.com/dunglas/mercure/caddy/mercure
	cd bench/peers/socketio && npm ci --no-audit --no-fund --prefer-offline --ignore-scripts
else
	cd bench/peers/centrifugo && $(GO) build -o ../../../bin/peers/centrifugo github.com/centrifugal/centrifugo/v6
endif
	./bin/sluice-load run -plan bench/$(PLAN).yaml -json bench/results/$(RESULT).json -html bench/results/$(RESULT).html -md bench/results/$(RESULT).md -svg bench/results/$(if $(WHOLE),,$(RESULT)-)charts $(if $(WHOLE),-into README.md) $(ARGS)

# A soak takes ten minutes unless TIME is given: its default is that of fuzz.
SOAK_TIME := $(if $(filter file,$(origin TIME)),10m,$(TIME))
CLIENTS   ?= 5000
SEED      ?= 0

soak: build ## let everything go wrong for TIME (10m) with CLIENTS (5000), report in bin/soak (SEED=n repeats a plan)
	$(GO) build -o bin/sluice-load ./cmd/sluice-load
	$(GO) build -o bin/nats-server github.com/nats-io/nats-server/v2
	./bin/sluice-load soak -time $(SOAK_TIME) -clients $(CLIENTS) -seed $(SEED) $(ARGS)

soakshort: ## the soak that is part of ci: each fault once, with few clients
	@$(MAKE) --no-print-directory soak TIME=1s CLIENTS=300 SEED=$(SEED) ARGS=-quiet

simulate: ## run a gateway with clients and services, replayable, from SEED (0: by the clock) for TIME (1m), or WORLDS=100000 (ARGS='-world n -worlds 1')
	$(GO) build -o bin/sluice-load ./cmd/sluice-load
	./bin/sluice-load simulate -seed $(SEED) $(if $(WORLDS),-worlds $(WORLDS),-time $(if $(filter file,$(origin TIME)),1m,$(TIME))) $(ARGS)

differential: build ## hold random conversations with Sluice and Resgate for TIME (1m), and compare what clients receive
	$(GO) build -o bin/sluice-load ./cmd/sluice-load
	$(GO) build -o bin/nats-server github.com/nats-io/nats-server/v2
	mkdir -p bin/peers
	cd bench/peers && $(GO) build -o ../../bin/peers/ github.com/resgateio/resgate
	./bin/sluice-load differential -time $(if $(filter file,$(origin TIME)),1m,$(TIME)) $(ARGS)

reliability: build ## cause faults under clients of Sluice, Resgate and Centrifugo, and write the table into docs/reliability.md
	$(GO) build -o bin/sluice-load ./cmd/sluice-load
	$(GO) build -o bin/nats-server github.com/nats-io/nats-server/v2
	mkdir -p bin/peers
	cd bench/peers && $(GO) build -o ../../bin/peers/ github.com/resgateio/resgate
	cd bench/peers/centrifugo && $(GO) build -o ../../../bin/peers/centrifugo github.com/centrifugal/centrifugo/v6
	./bin/sluice-load faults -plan bench/faults.yaml -into docs/reliability.md $(ARGS)

# QUICK=1 prints its tables only; a whole run replaces the figures of the model, too. After one that
# was ended, ARGS=-resume goes on with what bench/results/scale.json.part does not have.
scale: build ## measure several gateways on a NATS cluster, and write docs/scaling.md (QUICK=1: less than three minutes, no file)
	$(GO) build -o bin/sluice-load ./cmd/sluice-load
	$(GO) build -o bin/nats-server github.com/nats-io/nats-server/v2
	./bin/sluice-load scale $(if $(QUICK),-quick,-json bench/results/scale.json -coefficients loadtest/capacity/measured.json -into docs/scaling.md) $(ARGS)

relay: build ## count the gets that a relay saves, and write the latency that it adds into docs/relay.md (two minutes)
	$(GO) test ./internal/restest -count 1 -run 'TestRelayOneGet$$' -v -relay-gateways 20 -relay-resources 1000 | grep -v ' INFO '
	$(GO) build -o bin/sluice-load ./cmd/sluice-load
	$(GO) build -o bin/nats-server github.com/nats-io/nats-server/v2
	./bin/sluice-load latency -into docs/relay.md $(ARGS)

# The plans of docs/scaling.md have the new costs, too.
interest: ## measure what subscriptions cost NATS servers, and write docs/interest.md (QUICK=1: half a minute, no file)
	$(GO) build -o bin/sluice-load ./cmd/sluice-load
	$(GO) build -o bin/nats-server github.com/nats-io/nats-server/v2
ifdef QUICK
	./bin/sluice-load interest -quick $(ARGS)
else
	./bin/sluice-load interest -json bench/results/interest.json -coefficients loadtest/capacity/interest.json -into docs/interest.md $(ARGS); code=$$?; \
	$(GO) run ./cmd/sluice-load scale -from bench/results/scale.json -into docs/scaling.md >/dev/null && exit $$code
endif

# A copy of Resgate whose main prints what it made of its settings.
VERDICT := $(CURDIR)/bin/verdict
resgate-table: ## compare the table of what Resgate starts with with the real one (ARGS=-update records its verdicts)
	rm -rf $(VERDICT) && mkdir -p $(VERDICT)
	cd bench/peers && cp -r "$$($(GO) mod download && $(GO) list -m -f '{{.Dir}}' github.com/resgateio/resgate)" $(VERDICT)/src && chmod -R u+w $(VERDICT)/src && \
	cp $(CURDIR)/internal/config/testdata/verdict.go.txt $(VERDICT)/src/verdict.go && cp go.mod $(VERDICT)/go.mod && cp go.sum $(VERDICT)/go.sum && \
	$(GO) mod edit -replace github.com/resgateio/resgate=$(VERDICT)/src $(VERDICT)/go.mod && \
	$(GO) build -modfile=$(VERDICT)/go.mod -o $(VERDICT)/resgate github.com/resgateio/resgate
	$(GO) test -count 1 ./internal/config -run 'Resgate' -resgate $(VERDICT)/resgate $(ARGS)

# What makes and tests packages is a module of its own, so that the gateway's stays small.
DEPLOY := cd deploy/tools && SLUICE=$(CURDIR)/bin/sluice $(GO)

release: ## make archives, packages, chart, SBOM and checksums of this commit in bin/release (VERSION=v1.2.3 names it)
	$(DEPLOY) run ./release -tree $(CURDIR) $(if $(VERSION),-version $(VERSION))

# What tests tell of this machine: which way they took, and what they left out.
NOTES  = rm -f $(CURDIR)/bin/notes; export NOTES=$(CURDIR)/bin/notes
NOTED  = if [ -s $(CURDIR)/bin/notes ]; then sort $(CURDIR)/bin/notes; fi

packages: build ## test the release for this machine, its packages, the unit, the chart and the proxies' configurations
	@gofmt -l deploy | (! grep .)
	$(DEPLOY) vet ./...
	cd deploy/tools/traefik && $(GO) test ./...
	@$(NOTES); $(DEPLOY) test -count 1 -timeout $(TIMEOUT) ./... && $(NOTED)

package-test: build ## the same for all targets, and compile everything twice to compare (some minutes)
	cd deploy/tools/traefik && $(GO) test ./...
	@$(NOTES) ALL=1; $(DEPLOY) test -count 1 -timeout $(TIMEOUT) ./... && $(NOTED)

clean: ## remove what was built
	rm -rf bin $(E2E)/node_modules examples/node_modules bench/peers/socketio/node_modules
