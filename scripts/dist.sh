#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# `make dist`: a release, build/mshv_vtl_tdx-VERSION.tar.xz. It has the sources of all Rust crates too,
# so that it builds without git and without a network.

# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/env.sh"

name=mshv_vtl_tdx-$VTL_VERSION
work=$BUILD/dist/$name
rm -rf "$BUILD/dist"
mkdir -p "$work/.cargo"
(cd "$TOP" && tracked '*' | tar -cf - --no-recursion -T -) | tar -xf - -C "$work"
# The emulator's core library has crates of its own.
(cd "$work" && in_root cargo vendor --locked --versioned-dirs --manifest-path tools/Cargo.toml \
	--sync /usr/lib/rustlib/src/rust/library/Cargo.toml tools/vendor) >"$work/.cargo/config.toml" 2>"$BUILD/dist/log" ||
	{ cat "$BUILD/dist/log" >&2; die "the crates could not be collected"; }
# In the clone they come from its cache.
sed -i 's|^directory = .*|directory = "tools/vendor"|' "$work/.cargo/config.toml"
tar -C "$BUILD/dist" --sort=name --owner=0 --group=0 --numeric-owner -I "xz -T0 -1" -cf "$BUILD/$name.tar.xz.new" "$name"
mv "$BUILD/$name.tar.xz.new" "$BUILD/$name.tar.xz"
rm -rf "$BUILD/dist"
say "release: ${BUILD#"$TOP"/}/$name.tar.xz"
