# The pinned Node.js comes first: jsii warns on older ones and runs at half the speed there.
export PATH := $(CURDIR)/node_modules/node/bin:$(CURDIR)/node_modules/.bin:$(PATH)
export CDK_DISABLE_CLI_TELEMETRY := true
export JSII_SILENCE_WARNING_UNTESTED_NODE_VERSION := true

MODULES := . cmd/defenderhub test test/consumer test/localaws test/localaws/rie tools

.DEFAULT_GOAL := help
# Tools that tools/go.mod pins; they run in any module. In a workspace go tool refuses -modfile.
tool = "$$(GOWORK=off go tool -n -modfile=$(CURDIR)/tools/go.mod $(1))"

.PHONY: help go cfn-lint command demo local test test-go test-cdk test-cloud lint tidy release snapshots fuzz bench simulate storm bootstrap doctor diff deploy destroy vuln clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: | go ## deploy to a local AWS on loopback and follow device events to findings; needs no account
	$(prepare) && exec ../.local/demo

local: | go ## serve that local AWS until Ctrl-C, for your own clients; RECORD=FILE writes telemetry for defenderhub replay
	$(prepare) && exec ../.local/demo -serve -record "$(if $(RECORD),$(abspath $(RECORD)))"

# go run would add an exit status to what a failure says, and call Ctrl-C an error.
prepare = @echo "installing and compiling what is not there yet (minutes the first time)" && cd test && \
	go build -o ../.local/prepare ./demo/prepare && ../.local/prepare -make "$(MAKE_COMMAND)" -o ../.local/demo

# The flags with which internal/gobuild compiles the Lambda functions: with others Go
# would compile once more what the functions share with the programs here.
demo local bootstrap doctor diff deploy destroy: export CGO_ENABLED := 0
demo local bootstrap doctor diff deploy destroy: export GOFLAGS := $(shell go env GOFLAGS 2>/dev/null) -trimpath

test: lint test-go test-cdk test-cloud ## everything that CI runs

test-go: ## what needs only Go, with the race detector: the domain, the Lambda functions, the direction of imports, the release
	go test -race -timeout 30m $(addprefix ./,$(concurrent)) $$(go list ./lambda/... | grep -v /simulation)
	go test -timeout 30m $(addprefix ./,$(filter-out $(concurrent),$(tested))) ./lambda/internal/simulation # one goroutine at a time runs in the simulation
	cd $(COMMAND) && go test -race -timeout 30m ./...
	go test -timeout 30m -run "^($$(sed -n 's/^func \(Test[^(]*\).*/\1/p' $(without_race) | paste -sd'|' -))$$" $(addprefix ./,$(sort $(dir $(without_race))))
	cd tools && go test -timeout 30m ./...

# Packages without goroutines have no races, and their tests would take up to ten times as long.
tested = $(sort $(dir $(shell find defender internal -name '*_test.go')))
concurrent = $(filter $(tested),$(sort $(dir $(shell grep -rlE --include='*.go' '^\s*go [a-z]|\.Go\b|\.Parallel\b|"sync|/sync/|testing/synctest|httptest|AfterFunc' defender internal))))

# The files whose tests the race detector would falsify, or for which it would find nothing. Each says why.
without_race = $(shell grep -rl --include='*_test.go' '^//go:build.*!race' defender internal lambda)

test-cdk: node_modules/.ready cfn-lint ## constructs, snapshots, template invariants, cdk-nag, the consumer module
	go test -timeout 30m . ./constructs/...
	cd test && go test -timeout 30m ./templates/...
	cd test/consumer && go test -timeout 30m -count=1 ./... # go test keeps no track of the sources that this one compiles

test-cloud: node_modules/.ready ## the local AWS and the end-to-end tests on it, an update from the last release
	cd test/localaws && go test -timeout 30m ./...
	cd test && go test -timeout 30m $$(go list ./... | grep -v -e /templates -e /walkthrough)
	cd test && go test -timeout 30m -count=1 -parallel 3 ./walkthrough/... # go test keeps no track of the sources that the CDK app compiles; one test waits for five minutes

lint: ## formatting, go vet, staticcheck and go mod tidy in every module; the Go API against the last tag
	@unformatted=$$(git ls-files '*.go' | xargs gofmt -l); test -z "$$unformatted" || { echo "run gofmt -w on:"; echo "$$unformatted"; exit 1; }
	@for m in $(MODULES); do (cd $$m && go vet ./... && $(call tool,staticcheck) ./... && if test $$m = $(COMMAND); then $(tidy) -diff; else go mod tidy -diff; fi) || { echo "in the module $$m"; exit 1; }; done
	@cd tools && go run ./apicheck -C .. -tools go.mod

command: | go ## build the command defenderhub as .local/defenderhub
	cd $(COMMAND) && go build -o $(CURDIR)/.local/defenderhub .

tidy: ## go mod tidy in every module
	@for m in $(MODULES); do (cd $$m && if test $$m = $(COMMAND); then $(tidy) && \
		go mod edit -dropreplace=$(ROOT) $(CURDIR)/.local/command.mod && cp $(CURDIR)/.local/command.mod go.mod && cp $(CURDIR)/.local/command.sum go.sum; \
		else go mod tidy; fi) || exit 1; done

# The command's go.mod has no replace, because go install refuses one, and go mod tidy ignores
# go.work: it runs on a copy. The sums of the root module are those of a release.
COMMAND := cmd/defenderhub
ROOT := github.com/defenderhub/defenderhub
tidy = mkdir -p $(CURDIR)/.local && cp go.mod $(CURDIR)/.local/command.mod && sed '\,^$(ROOT) ,d' go.sum > $(CURDIR)/.local/command.sum && \
	go mod edit -replace=$(ROOT)=../.. $(CURDIR)/.local/command.mod && GOWORK=off go mod tidy -modfile=$(CURDIR)/.local/command.mod

release: ## check, write the changelog, build the functions' zips, tag and push; VERSION=v0.1.0
	@cd tools && go run ./release -C .. -version "$(VERSION)"

snapshots: node_modules/.ready ## rewrite the template snapshots; read the diff before you commit it
	cd test && go test ./templates/... -update

fuzz: ## each fuzz target for a few seconds
	@for m in . $(COMMAND) test test/localaws; do (cd $$m && for p in $$(go list ./...); do \
		for f in $$(go test -list '^Fuzz' $$p 2>/dev/null | grep '^Fuzz'); do echo "$$p $$f"; go test $$p -run '^$$' -fuzz "^$$f$$" -fuzztime 10s -fuzzminimizetime 10x || exit 1; done; done) || exit 1; done

bench: node_modules/.ready ## ratios and costs, measured in one run
	@cd test && go run ./bench

# SEED=7 replays one run with its log, WITHOUT=crash,hub-off leaves faults out.
simulate: ## the functions against AWS in memory: random runs for SPAN (10m); SEED=7 replays one
	SIMULATE=$(if $(SEED),,$(or $(SPAN),10m)) START=$(START) SEED=$(SEED) WITHOUT=$(WITHOUT) UPDATE=$(UPDATE) go test -count=1 -timeout 2h -v -run '^Test(Simulate|EqualSeeds)' ./lambda/internal/simulation
	$(if $(SEED),,MUTATE=1 UPDATE=$(UPDATE) go test -count=1 -timeout 2h -v -run '^TestMutations$$' ./lambda/internal/simulation)

storm: ## a million transitions of DEVICES (100000) flapping devices: calls and time until Security Hub shows every last state
	GOGC=200 go test -count=1 -timeout 2h -v -run '^TestStorm$$' ./lambda/internal/simulation -storm.devices=$(or $(DEVICES),100000)

bootstrap: node_modules/.ready ## prepare your AWS account and Region for the CDK, once
	cdk bootstrap $(ARGS)

diff: node_modules/.ready ## what a deployment to your AWS account would change
	cdk diff $(ARGS)

# doctor gets the variable as a prerequisite of deploy. A closed account stops here, not in CloudFormation.
deploy: TRY ?= 1
deploy: doctor ## check the account, show the difference, then deploy; settings by ARGS="-c KEY=VALUE"; ANYWAY=1 ignores what is to fix, TRY=0 does not try Detect
	cdk diff $(ARGS)
	cdk deploy $(ARGS)

# 2 does not stop, because a check that cannot decide is no conflict. A profile and a
# toolkit stack for the CDK CLI are those of doctor too. ANYWAY=1 is for a deployment that is itself the fix.
doctor: node_modules/.ready command ## check the account as deploy does, with the same ARGS, and deploy nothing; TRY=1 tries Detect too
	cdk synth --quiet $(ARGS)
	@.local/defenderhub doctor --template cdk.out $(for_doctor) $(if $(filter 1,$(TRY)),--try --yes) || test $$? -eq 2 || \
		{ test -n "$(ANYWAY)" || { echo "make deploy ANYWAY=1 deploys without these fixes"; exit 1; }; }
for_doctor = $(shell printf '%s\n' $(ARGS) | awk '/^--(profile|toolkit-stack-name)$$/ { print; getline; print } /^--(profile|toolkit-stack-name)=/')

destroy: node_modules/.ready ## remove the stack; docs/redeploying.md says what stays
	cdk destroy $(ARGS)

vuln: ## known vulnerabilities in the dependencies; needs access to vuln.go.dev
	@for m in $(MODULES); do (cd $$m && $(call tool,govulncheck) ./...) || exit 1; done

clean: ## remove what the targets installed and built
	rm -rf node_modules cdk.out .venv .local dist

go:
	@command -v go >/dev/null || { echo "go is missing: install Go 1.26 or newer (https://go.dev/dl)"; exit 1; }
	@go list -m >/dev/null 2>&1 || { go list -m; echo "this needs Go 1.26 or newer (https://go.dev/dl), or GOTOOLCHAIN=auto with a network: here is $$(go env GOVERSION) with GOTOOLCHAIN=$$(go env GOTOOLCHAIN)"; exit 1; }

# The one on PATH if it is the pinned version, or one of our own.
cfn-lint:
	@pinned=$$(sed -n 's/^cfn-lint==/cfn-lint /p' test/templates/requirements.txt); \
	for c in .local/cfn-lint/bin/cfn-lint cfn-lint; do test "$$($$c --version 2>/dev/null)" = "$$pinned" && exit 0; done; \
	command -v python3 >/dev/null || { echo "python3 is missing: install Python 3.10 or newer with venv and pip (https://www.python.org/downloads), which then installs $$pinned"; exit 1; }; \
	echo "installing $$pinned"; python3 -m venv --clear .local/cfn-lint && .local/cfn-lint/bin/pip install --quiet --disable-pip-version-check -r test/templates/requirements.txt

node_modules/.ready: package-lock.json | go
	@command -v npm >/dev/null || { echo "npm is missing: install Node.js 20 or newer (https://nodejs.org); it includes npm, which then installs the pinned Node.js and CDK CLI"; exit 1; }
	@echo "installing the CDK CLI and Node.js that package.json pins"
	@npm ci --no-audit --no-fund --loglevel=error
	@touch $@
