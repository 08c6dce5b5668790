#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# `make miri`: the tests of the crates without hardware under Miri, an interpreter that finds
# undefined behaviour. It exists only for nightly compilers, so rustup fetches one into the cache;
# later runs use no network. Properties are tried on fewer cases, because Miri is a few hundred
# times slower.
#   miri.sh [CRATE...]		default: tdx_model vtl_pure

# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/env.sh"

TOOLCHAIN=nightly-2026-05-20
export RUSTUP_HOME=$CACHE/miri/rustup CARGO_HOME=$CACHE/miri/cargo
export MIRI_SYSROOT=$CACHE/miri/sysroot
export RUSTUP_TOOLCHAIN=$TOOLCHAIN CARGO_TARGET_DIR=$BUILD/cargo-miri
unset RUSTC RUSTFLAGS

# A complete toolchain leaves a mark, so that a torn download is fetched again.
install_miri() {
	local mark=$CACHE/miri/$TOOLCHAIN.complete
	[ ! -e "$mark" ] || return 0
	need_space "$CACHE" 3000
	say "fetching Miri ($TOOLCHAIN) into $CACHE/miri"
	rustup toolchain install "$TOOLCHAIN" --profile minimal --component miri,rust-src \
		--no-self-update || die "Miri could not be fetched" \
		"rustup needs the network for this, once; all other targets do without Miri"
	cargo miri setup || die "Miri's own standard library could not be built"
	touch "$mark"
}

# The crates follow the lock file, not the toolchain: another mark.
fetch_crates() {
	local lock mark
	lock=$(sha256sum "$TOP/tools/Cargo.lock" | cut -c1-16)
	mark=$CACHE/miri/crates-$lock.complete
	[ ! -e "$mark" ] || return 0
	cargo fetch --locked --manifest-path "$TOP/tools/Cargo.toml" ||
		die "the crates of tools/Cargo.lock could not be fetched"
	touch "$mark"
}

command -v rustup >/dev/null || die "rustup is missing, and Miri comes no other way" \
	"install it with this system's package manager (Debian 13 and later: apt-get install rustup)"
install_miri
fetch_crates
crates=("$@")
[ $# -gt 0 ] || crates=(tdx_model vtl_pure)
say "tests under Miri: ${crates[*]}"
cargo miri test --locked --offline --manifest-path "$TOP/tools/Cargo.toml" "${crates[@]/#/--package=}"
