#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# `make fuzz T=seconds`: random guests and hosts against tdx_model, random files
# against vtl_audit, each target (a leaf, the dispatcher, exits, audit) for its share
# of the time. Integer overflow is
# an error here. TARGET= and SEED= run one target, or one case with T=0.

# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/env.sh"

words=("${T:-60}")
[ -z "${TARGET:-}" ] || words+=("$TARGET")
[ -z "${SEED:-}" ] || words+=("$SEED")
in_root env CARGO_TARGET_DIR="$BUILD/cargo-fuzz" CARGO_PROFILE_RELEASE_OVERFLOW_CHECKS=true \
	CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS=true cargo run --locked --release --quiet \
	--manifest-path "$TOP/tools/Cargo.toml" -p tdx_fuzz -- "${words[@]}"
