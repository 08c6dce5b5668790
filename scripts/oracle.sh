#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# `make oracle [TRACE=file]`: replays recorded calls of a TDX module against tdx_model and
# names what differs. Without TRACE it is the trace of the repository.

# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/env.sh"

trace=$(realpath -- "${TRACE:-$TOP/tools/checks/oracle/traces/starter.jsonl}")
echo "replaying $trace"
# By stdin: the build root does not see every folder.
in_root env CARGO_TARGET_DIR="$BUILD/cargo" cargo run --locked --quiet \
	--manifest-path "$TOP/tools/Cargo.toml" -p tdx_oracle -- - <"$trace"
