#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# `make fuzz T=seconds`: random guests and hosts against tdx_model, random files
# against vtl_audit, each target (a leaf, the dispatcher, exits, audit) for its share
# of the time. Integer overflow is an error here. TARGET= runs one target, SEED= one from
# another first seed, and with T=0 only the case of that seed.

# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/env.sh"

[ -n "${TARGET:-}" ] || [ -z "${SEED:-}" ] || die "SEED=$SEED is of one target, and there is no TARGET=" \
	"example: make fuzz T=0 TARGET=exits SEED=$SEED"
words=("${T:-60}")
[ -z "${TARGET:-}" ] || words+=("$TARGET")
[ -z "${SEED:-}" ] || words+=("$SEED")
in_root env CARGO_TARGET_DIR="$BUILD/cargo-fuzz" CARGO_PROFILE_RELEASE_OVERFLOW_CHECKS=true \
	CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS=true cargo run --locked --release --quiet \
	--manifest-path "$TOP/tools/Cargo.toml" -p tdx_fuzz -- "${words[@]}"
