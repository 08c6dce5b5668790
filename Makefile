# SPDX-License-Identifier: GPL-2.0
#
# Front door of mshv_vtl_tdx. `make help` lists what there is; the work is done
# by scripts/, inside a build root that `make setup` makes.
#
# KDIR=   another kernel tree prepared for Rust modules (default: the project's)
# KIMAGE= the kernel image that belongs to it, for run and test
# V=1     show every command, and the whole console of the TD

SHELL := /bin/bash
S := scripts
export N OTHERS VCPUS DISK NET DEVICES T TARGET SEED TRACE KDIR KIMAGE V KERNEL INITRD CMDLINE EMU SMP MEM \
	SHARE RUN EXTRA GDB ROOTLESS DEBIAN_MIRROR DESTDIR PREFIX

.DEFAULT_GOAL := modules
.PHONY: help setup doctor modules emulator tools selftests initramfs image \
	run test test-host test-tmk test-td test-kexec test-guest test-install test-hosts install dist bench bench-guest bench-emu fuzz oracle miri debug-kernel test-deep storm soak soak-hostile soak-guest boot shell emu-run check fmt fmtcheck clippy lint \
	unsafe-count docs clean distclean

help: ## list the targets
	@echo "mshv_vtl_tdx: run lower VTLs of a TDX trust domain from a Linux at VTL2"
	@echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo "  variables: KDIR= prepared kernel tree  KIMAGE= its kernel  SMP= vCPUs  MEM= memory  V=1 verbose"
	@echo "             MSHV_VTL_CACHE= where downloads and the build root are kept"
	@echo "             Documentation/reference.rst has all of them"

setup: ## set up everything needed (build root, kernel tree, crates); a no-op when done
	@$(S)/setup.sh

doctor: ## say what is present, missing or broken, and what to do
	@$(S)/doctor.sh

modules: setup ## build the kernel module, build/module/mshv_vtl_tdx.ko
	@$(S)/build.sh module

emulator: setup ## build the emulator of the TDX module and its host, build/tdxemu [ROOTLESS=1]
	@$(S)/build.sh emulator

tools: setup ## build the companion command, build/vtlctl
	@$(S)/build.sh tools

selftests: setup ## build the kselftests, build/selftests/
	@$(S)/build.sh selftests

initramfs: modules tools selftests ## pack module, tools and tests for the TD
	@$(S)/build.sh initramfs

image: emulator initramfs ## everything a TD needs

run: ## set up, build, boot a TD and a Linux at VTL0 in it (console: build/run.log)
	@$(S)/run.sh

test: ## set up, build and pass the tests of each change (console and KTAP: build/test.log)
	@$(S)/test.sh

test-host: setup ## the host tests only (crates, without a machine)
	@$(S)/test.sh host

test-tmk: emulator ## the guest test microkernel on the emulator only
	@$(S)/test.sh tmk

test-td: image ## the kselftests in a TD only
	@$(S)/test.sh td

test-kexec: image ## a kernel that another one has started, in a TD, only
	@$(S)/test.sh kexec

test-guest: modules emulator tools ## a Linux at VTL0, in a TD, only
	@$(S)/test.sh guest

test-install: image ## release, make install, Debian packages in a clean system (ten minutes, needs the network)
	@$(S)/test-install.sh

test-hosts: ## set up a clean Debian 12, Debian 13 and Ubuntu 24.04 (half an hour, needs the network) [HOSTS=]
	@$(S)/test-hosts.sh

install: ## install what was built: module, vtlctl, tdxemu, documents [DESTDIR=] [PREFIX=/usr/local]
	@$(S)/install.sh

dist: setup ## a release that builds without git and network, build/mshv_vtl_tdx-VERSION.tar.xz
	@$(S)/dist.sh

bench: ## count instructions of each path and of a boot at VTL0, deterministically (build/bench*.json) [PROFILE=path]
	@$(S)/bench.sh

bench-guest: ## the boot at VTL0 only: instructions, exits, ratio to the same boot at L1
	@$(S)/bench-guest.sh

fuzz: setup ## random guests and hosts against the model, random files against the verifier [T=seconds] [TARGET= SEED=]
	@$(S)/fuzz.sh

oracle: setup ## replay recorded calls of a TDX module against the model, and name what differs [TRACE=file]
	@$(S)/oracle.sh

miri: ## the tests of tdx_model and rust/pure under Miri (fetches it once; needs rustup)
	@$(S)/miri.sh

debug-kernel: ## build a kernel that finds errors by itself (KASAN, lockdep; takes long, once) [RT=1]
	@$(S)/debug-kernel.sh

test-deep: ## all kselftests, KUnit and failing allocations on the debug kernel (build/test-deep.log) [RT=1] [JOBS= FUZZ_SECONDS=]
	@$(S)/test-deep.sh

storm: image ## a million interrupts and switches, 40 seconds of wake-ups: none lost [EVENTS= SWITCHES= RACE_SECONDS= ATTEST_SECONDS= SEED=]
	@$(S)/storm.sh

soak: image ## boot two kernel versions with 1, 2 and 4 vCPUs, N times each (N=20) and OTHERS times at each other level (OTHERS=3) [VCPUS=]
	@$(S)/soak.sh

soak-hostile: image ## a guest, and two VTLs, in TDs whose host is hostile: seeds 1 to N (N=20)
	@$(S)/soak.sh hostile

soak-guest: ## boot two kernel versions at VTL0 with 1, 2 and 4 processors, N times each (N=10) [VCPUS=]
	@$(S)/soak-guest.sh

bench-emu: image ## the emulator's cost: instructions and ratio of a boot, ratio of an L2 round trip [RUNS=]
	@$(S)/build.sh tmk
	@$(S)/build.sh bench
	@$(S)/bench-emu.sh

boot: modules emulator tools ## the prompt of a Linux at VTL0 in a TD (Ctrl-A X ends it)
	@$(S)/build.sh guest
	@INITRAMFS=build/guest-initramfs $(S)/td.sh guestshell build/boot.log

shell: image ## a shell in the VTL2 Linux of a TD [SHARE=folder] [EXTRA=folder] [RUN=command]
	@$(S)/td.sh $(if $(RUN),command,shell) build/shell.log emu.quote=1

emu-run: emulator ## boot any TDX kernel as a TD: KERNEL= INITRD= [CMDLINE=] [EMU=] [GDB=1] [ROOTLESS=1]
	@$(S)/emu-run.sh

check: fmtcheck clippy lint test-host docs ## before each commit: format, lints, host tests, docs

fmt: setup ## format the Rust and C sources
	@$(S)/lint.sh fmt

fmtcheck: setup ## check the format
	@$(S)/lint.sh fmtcheck

clippy: setup ## clippy on the tools and on the module, warnings are errors
	@$(S)/lint.sh clippy

lint: setup ## house lints: SPDX, sizes, SAFETY comments, checkpatch, shellcheck
	@$(S)/lint.sh house

docs: setup ## build the documentation, warnings are errors (build/docs/index.html)
	@$(S)/lint.sh docs

clean: ## remove build products of this clone
	rm -rf build

distclean: clean ## also remove the cache (build root, kernel tree, downloads)
	@$(S)/setup.sh --remove
