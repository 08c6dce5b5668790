#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Builds one part of the project inside the build root:
#   build.sh module | emulator | tmk | vtl1 | client | tools | selftests | bench | initramfs | kexec | guest

# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/env.sh"

TARGET=$BUILD/cargo
MANIFEST=$TOP/tools/Cargo.toml
HOST_TRIPLE=x86_64-unknown-linux-gnu
EMU_TRIPLE=x86_64-unknown-none

# A newer compiler of a user may warn of more.
DENY=-Dwarnings
[ -z "${ROOTLESS:-}" ] || DENY=

cargo_in_root() { in_root env CARGO_TARGET_DIR="$TARGET" "$@"; }

# Objects go to $BUILD/module; the sources stay clean.
build_module() {
	if ! { compgen -G "$KOBJ/rust/*.rmeta" && [ -e "$KOBJ/scripts/module.lds" ]; } >/dev/null; then
		die "$KOBJ is not a kernel tree prepared for Rust modules" \
			"expected scripts/module.lds and rust/*.rmeta in it (CONFIG_RUST=y, 'make modules_prepare')" \
			"without KDIR= the project prepares its own: make setup"
	fi
	mkdir -p "$BUILD/module"
	kernel_make M="$TOP" MO="$BUILD/module" ${V:+V=$V} ${CLIPPY:+CLIPPY=$CLIPPY} modules
}

# The emulator is freestanding: its core library is built from the compiler's
# own sources, without SSE, because VMRUN does not switch vector registers. It is
# small rather than straight, because each of its pages costs after an exit.
build_emulator() {
	build_bare_metal tdxemu
	cp "$TARGET/$EMU_TRIPLE/release/tdxemu" "$BUILD/tdxemu"
}

# The guest test microkernel is a kernel image, not an ELF file.
build_tmk() {
	build_bare_metal tmk
	in_root objcopy -O binary "$TARGET/$EMU_TRIPLE/release/tmk" "$BUILD/tmk"
}

# The secure kernel for VTL1, likewise.
build_vtl1() {
	BARE_METAL_FLAGS=$SOFT_CIPHERS build_bare_metal vtl1
	in_root objcopy -O binary "$TARGET/$EMU_TRIPLE/release/vtl1" "$BUILD/vtl1"
}

# The driver of a Linux at VTL0 for it.
build_client() {
	mkdir -p "$BUILD/vtl1_client"
	kernel_make M="$TOP/tools/vtl1/driver" MO="$BUILD/vtl1_client" ${V:+V=$V} ${CLIPPY:+CLIPPY=$CLIPPY} modules
}

build_bare_metal() {
	local core=("-Zbuild-std=core,compiler_builtins" -Zbuild-std-features=compiler-builtins-mem)
	[ -z "${ROOTLESS:-}" ] || choose_core
	cargo_in_root env RUSTC_BOOTSTRAP=1 \
		CARGO_PROFILE_RELEASE_OPT_LEVEL=s \
		CARGO_PROFILE_RELEASE_LTO=fat CARGO_PROFILE_RELEASE_CODEGEN_UNITS=1 \
		RUSTFLAGS="-Clinker=ld -Clinker-flavor=ld $DENY ${BARE_METAL_FLAGS:-}" \
		cargo build --locked --release --manifest-path "$MANIFEST" -p "$1" \
		--target "$EMU_TRIPLE" "${core[@]}"
}

# The user's compiler may have the core library compiled for this target; or its sources.
choose_core() {
	local lib
	lib=$(rustc --print sysroot)/lib/rustlib
	if [ -d "$lib/$EMU_TRIPLE" ]; then
		core=()
	elif [ ! -e "$lib/src/rust/library/core/Cargo.toml" ]; then
		die "this Rust compiler has no core library for $EMU_TRIPLE" \
			"rustup target add $EMU_TRIPLE, or install the sources (Debian: rust-src)"
	fi
}

# Static, so that it runs in an initramfs without a C library. The examples of the
# library are what its test in a TD runs.
build_tools() {
	build_vtl1
	cargo_in_root env RUSTFLAGS="-Ctarget-feature=+crt-static $DENY" \
		cargo build --locked --release --manifest-path "$MANIFEST" -p vtlctl -p vtl -p vtl1_host -p vtl1ctl \
		--bins --examples --target "$HOST_TRIPLE"
	cp "$TARGET/$HOST_TRIPLE/release"/{vtlctl,vtl1_test,vtl1ctl} "$BUILD/"
	cp "$TARGET/$HOST_TRIPLE/release/examples"/{first_paravisor,secret,every_command} "$BUILD/"
	build_manual
}

# As below /usr/share.
build_manual() {
	local share=$BUILD/share shell file
	rm -rf "$share"
	in_root "$TARGET/$HOST_TRIPLE/release/examples/vtl1ctl_manual" "$share"
	in_root "$BUILD/vtlctl" man "$share/man/man1"
	for file in bash-completion/completions/vtlctl zsh/site-functions/_vtlctl fish/vendor_completions.d/vtlctl.fish; do
		mkdir -p "$share/${file%/*}"
		shell=${file%%/*}
		in_root "$BUILD/vtlctl" completions "${shell%-completion}" >"$share/$file"
	done
}

build_selftests() {
	in_root make -C "$TOP/selftests" CC=gcc-14 CXX=clang++-19 KSRC="$KSRC" OUTPUT="$BUILD/selftests" \
		-j"$(nproc)" all
	build_drivers
	build_test_module debug_port
	build_test_module plug
}

# build_test_module NAME: a module that only tests load.
build_test_module() {
	mkdir -p "$BUILD/$1"
	kernel_make M="$TOP/selftests/$1" MO="$BUILD/$1" modules
}

# Drivers of the kernel that its image does not contain and tests need: a block device for direct
# I/O, MSRs, what requests quotes, virtio's disk and network. Another kernel tree may have them built in.
build_drivers() {
	[ -z "${KDIR:-}" ] || return 0
	build_driver drivers/block brd.ko
	build_driver arch/x86/kernel msr.ko
	build_driver fs/configfs configfs.ko
	build_driver drivers/virt/coco/guest tsm_report.ko
	build_driver drivers/virt/coco/tdx-guest tdx-guest.ko
	build_driver drivers/block virtio_blk.ko
	build_driver net/core failover.ko
	build_driver drivers/net net_failover.ko
	build_driver drivers/net virtio_net.ko
}

# build_driver DIRECTORY MODULE [FOLDER]
build_driver() {
	local out=$BUILD/${3:-drivers}/${2%.ko}
	[ ! -e "$out/$2" ] || return 0
	mkdir -p "$out"
	kernel_make M="$KSRC/$1" MO="$out" "$2"
}

# The plugin that counts, the floor that everything is compared with, and what ends a boot.
build_bench() {
	cargo_in_root cargo build --locked --release --manifest-path "$MANIFEST" -p insn_count
	mkdir -p "$BUILD/bench"
	in_root gcc-14 -nostdlib -static -o "$BUILD/bench/init" "$TOP/selftests/bench/init.S"
	kernel_make M="$TOP/selftests/bench" MO="$BUILD/bench" modules
}

# start_tree TREE [INIT]: what every initial RAM disk has.
start_tree() {
	rm -rf "$1"
	mkdir -p "$1"/{bin,dev,proc,sys,tmp,lib}
	cp "$ROOT/usr/bin/busybox" "$1/bin/busybox"
	cp "${2:-$TOP/scripts/init}" "$1/init"
	chmod 755 "$1/init"
}

# The TD unpacks what is in it at each boot: where no tests run, none are in it.
build_initramfs() {
	local tree=$BUILD/initramfs.d
	start_tree "$tree"
	cp "$BUILD/vtlctl" "$tree/bin/"
	cp "$BUILD/module/mshv_vtl_tdx.ko" "$tree/lib/"
	pack "$tree" "$BUILD/initramfs-run"
	mkdir "$tree/selftests"
	cp "$BUILD"/{first_paravisor,secret,every_command,vtl1_test} "$tree/bin/"
	cp "$BUILD/vtl1" "$tree/lib/"
	cp -r "$BUILD/selftests/." "$tree/selftests/"
	rm -f "$tree"/selftests/*.o
	[ ! -e "$BUILD/bench/vtl_floor.ko" ] || cp "$BUILD/bench/vtl_floor.ko" "$tree/lib/"
	find "$BUILD/drivers" -name '*.ko' -exec cp -t "$tree/lib" {} + 2>/dev/null || :
	find "$BUILD"/{debug_port,plug} -name '*.ko' -exec cp -t "$tree/lib" {} + 2>/dev/null || :
	pack "$tree" "$BUILD/initramfs"
}

# A kernel that starts another one, with an initramfs in the initramfs.
build_kexec() {
	local from=$BUILD/initramfs.d tree=$BUILD/kexec.d
	start_tree "$tree"
	mkdir "$tree/selftests"
	cp "$from/bin/vtlctl" "$tree/bin/"
	cp "$from"/lib/{mshv_vtl_tdx,vtl_left_behind}.ko "$tree/lib/"
	cp "$from"/selftests/{vp_run,kexec_into,left_behind.sh,result.sh} "$tree/selftests/"
	pack "$tree" "$BUILD/kexec.second"
	mkdir "$tree/kexec"
	mv "$BUILD/kexec.second" "$tree/kexec/initramfs"
	cp "$KIMAGE" "$tree/kexec/kernel"
	pack "$tree" "$BUILD/kexec-initramfs"
}

# A kernel with an initramfs for VTL0, and what runs at VTL1, in the initramfs.
build_guest() {
	local tree=$BUILD/guest.d
	build_guest_drivers
	build_client
	build_test_module vtl1_calls
	build_test_module vtl0_attack
	start_tree "$tree" "$TOP/scripts/guest-init"
	cp "$TOP/scripts/guest-vtl1" "$tree/vtl1-test"
	cp "$TOP/scripts/guest-attack" "$tree/attack"
	cp "$BUILD/vtl1ctl" "$tree/bin/"
	cp "$TOP/selftests/result.sh" "$tree/lib/"
	cp "$BUILD/vtl1_client/vtl1_client.ko" "$BUILD/vtl1_calls/vtl1_calls.ko" \
		"$BUILD/vtl0_attack/vtl0_attack.ko" "$tree/lib/"
	find "$BUILD/guest-drivers" -name '*.ko' -exec cp -t "$tree/lib" {} +
	[ ! -e "$BUILD/bench/init" ] || cp "$BUILD/bench/init" "$tree/bench-init"
	pack "$tree" "$BUILD/guest.inner"
	start_tree "$tree"
	cp "$BUILD/vtlctl" "$tree/bin/"
	cp "$BUILD/module/mshv_vtl_tdx.ko" "$TOP/selftests/result.sh" "$tree/lib/"
	mkdir "$tree/guest"
	cp "$BUILD/vtl1" "$tree/guest/"
	# Known to everybody, so that what is signed with its keys can be checked.
	printf "VTL1's seed for demonstrations.." | tee "$BUILD/guest.seed" >"$tree/guest/seed"
	mv "$BUILD/guest.inner" "$tree/guest/initramfs"
	cp "${GUEST_KIMAGE:-$KIMAGE}" "$tree/guest/kernel"
	pack "$tree" "$BUILD/guest-initramfs"
}

# The drivers that a distribution has in its initial RAM disk. Another kernel tree may have them
# built in.
build_guest_drivers() {
	mkdir -p "$BUILD/guest-drivers"
	[ -z "${KDIR:-}" ] || return 0
	build_driver drivers/virtio virtio_mmio.ko guest-drivers
	build_driver drivers/block virtio_blk.ko guest-drivers
	build_driver drivers/char/hw_random virtio-rng.ko guest-drivers
}

# pack TREE FILE: without debug information, which nobody reads in a TD, and unpacking takes time. All
# files have one date: the same ones make the same archive, and unpacking that takes as many instructions.
pack() {
	# shellcheck disable=SC2016 # not this shell expands it
	in_root sh -ec 'find "$1" -type f -size +8k | while read -r file; do
		case $(head -c 4 "$file" | tr -d "\0"),$file in
			?ELF,*.ko) strip --strip-debug "$file" ;;
			?ELF,*) strip "$file" ;;
		esac
	done' sh "$1"
	find "$1" -exec touch -h -d @1767225600 {} +
	(cd "$1" && find . | LC_ALL=C sort | in_root_cpio) >"$2.cpio.new"
	gzip -1 -n -c "$2.cpio.new" >"$2.new"
	rm "$2.cpio.new"
	mv "$2.new" "$2"
}

in_root_cpio() { in_root cpio --quiet -o -H newc --owner=0:0 --reproducible; }

need_root "building"
need_plain_paths
case ${ROOTLESS:+rootless}-${1:-} in
rootless-emulator | rootless-tmk | rootless-tools | -*) ;;
*) die "ROOTLESS=1 is for the emulator and the tools, not for '${1:-}'" \
	"the module needs no root either: make -C YOUR_KERNEL_TREE M=\$PWD modules" ;;
esac
if ! mkdir -p "$BUILD" || ! touch "$BUILD/.lock"; then
	die "cannot write to $BUILD" "another user has built here: remove $BUILD, or build as that user"
fi
exec 8<"$BUILD/.lock"
flock -n 8 || { say "another build of this clone is running, waiting for it"; flock 8; }
case ${1:-} in
module | emulator | tmk | vtl1 | client | tools | selftests | bench | initramfs | kexec | guest) "build_$1" ;;
*) die "unknown part '${1:-}'" "known: module emulator tmk vtl1 client tools selftests bench initramfs kexec guest" ;;
esac
