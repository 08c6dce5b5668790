#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# The crates that others build upon can be published: each is packaged and built from
# its archive alone, by the oldest compiler that it names, and the archive has what a
# user of it looks for. Prints KTAP; needs a finished set-up.

# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/env.sh"

work=$(mktemp -d "$BUILD/test-package.XXXXXX")
trap 'rm -rf --one-file-system "$work"' EXIT
. "$TOP/scripts/check.sh"

# What is not committed is packaged, too: it is what will be.
package() {
	in_root env CARGO_TARGET_DIR="$work/target" cargo package --locked --allow-dirty \
		--manifest-path "$TOP/tools/Cargo.toml" -p "$1" && unpack "$1"
}

unpack() {
	tar -xzf "$work/target/package/$1"-[0-9]*.crate -C "$work" &&
		mv "$work/$1"-[0-9]* "$work/$1"
}

# has CRATE FILE...: a missing or empty one is named.
has() {
	local crate=$1 file
	shift
	for file in "$@"; do
		[ -s "$work/$crate/$file" ] || { echo "$crate has no $file"; return 1; }
	done
}

# Metadata for a registry and for users of the library.
describes_itself() {
	local key manifest=$work/$1/Cargo.toml
	for key in description license readme keywords categories rust-version; do
		grep -q "^$key = " "$manifest" || { echo "$1: no $key"; return 1; }
	done
}

# An exact version in a library keeps its users from the fixes of others.
pins_nothing() {
	if grep -nE '^version = "=|^path = "[.][.]' "$work/$1/Cargo.toml"; then return 1; fi
}

# Every public item has its words, and every link in them leads somewhere.
documents_itself() {
	in_root env CARGO_TARGET_DIR="$work/target" RUSTDOCFLAGS="-Dwarnings -Dmissing_docs" \
		cargo doc --locked --no-deps --manifest-path "$TOP/tools/Cargo.toml" -p "$1"
}

# What the guide has its reader type (Documentation/paravisor.rst), but for the network.
guide_builds_in_rust() {
	# shellcheck disable=SC2016 # not this shell expands it
	in_root env CARGO_TARGET_DIR="$work/target" sh -ec 'cd "$1" && cargo new --vcs none my_paravisor && cd my_paravisor &&
		cargo add --offline vtl --path "$2/tools/vtl" && cp "$2/tools/vtl/examples/first_paravisor.rs" src/main.rs &&
		RUSTFLAGS=-Ctarget-feature=+crt-static cargo build --offline --release --target x86_64-unknown-linux-gnu' \
		sh "$work" "$TOP" && is_static "$work/target/x86_64-unknown-linux-gnu/release/my_paravisor"
}

guide_builds_in_c() {
	in_root gcc-14 -static -I"$TOP/include" -I"$TOP/include/uapi" -o "$work/in_c" "$TOP/selftests/first_paravisor.c" &&
		is_static "$work/in_c"
}

# What the guide shows of both, without the heads.
guide_is_short() {
	[ "$(tail -n +4 "$TOP/tools/vtl/examples/first_paravisor.rs" | wc -l)" -le 40 ] &&
		[ "$(tail -n +5 "$TOP/selftests/first_paravisor.c" | wc -l)" -le 60 ]
}

is_static() { ! in_root readelf -l "$1" | grep -q INTERP; }

echo "KTAP version 1"
echo "1..17"
for crate in vtl vtl_audit tdx_model; do
	check "${crate}_builds_from_its_archive_alone" package "$crate"
	check "${crate}_has_its_texts" has "$crate" README.md LICENSE-MIT LICENSE-GPL-2.0 src/lib.rs
	check "${crate}_describes_itself" describes_itself "$crate"
	check "${crate}_pins_no_version" pins_nothing "$crate"
done
check vtl_documents_every_item_and_link documents_itself vtl
check vtl_audit_documents_every_item_and_link documents_itself vtl_audit
check a_project_of_ones_own_builds_the_paravisor_of_the_guide guide_builds_in_rust
check two_headers_build_the_paravisor_of_the_guide guide_builds_in_c
check the_paravisors_of_the_guide_have_40_and_60_lines guide_is_short
[ "$failed" = 0 ]
