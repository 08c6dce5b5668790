#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Format, lints and documentation: lint.sh fmt | fmtcheck | clippy | house | docs

# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/env.sh"
. "$TOP/scripts/lint-reference.sh"

MANIFEST=$TOP/tools/Cargo.toml
cd "$TOP"

c_sources()      { tracked '*.c' '*.h'; }
module_sources() { tracked 'rust/*.rs' 'tools/vtl1/driver/*.rs'; }

lint_fmt() { format; }
lint_fmtcheck() { format --check; }

# The kernel's own rustfmt and clang-format settings for the module and the C
# code, the workspace's for the tools.
format() {
	local clang=(-i)
	[ -z "${1:-}" ] || clang=(--dry-run --Werror)
	in_root cargo fmt --all --manifest-path "$MANIFEST" -- "$@"
	module_sources | in_root xargs -r rustfmt --edition 2021 \
		--config-path "$KSRC/.rustfmt.toml" "$@"
	c_sources | in_root xargs -r clang-format --style="file:$KSRC/.clang-format" "${clang[@]}"
	say "format: ok"
}

lint_clippy() {
	in_root env CARGO_TARGET_DIR="$BUILD/cargo" cargo clippy --locked --workspace \
		--all-targets --manifest-path "$MANIFEST" --quiet -- -D warnings
	in_root env CARGO_TARGET_DIR="$BUILD/cargo" RUSTC_BOOTSTRAP=1 \
		RUSTFLAGS="$SOFT_CIPHERS" cargo clippy --locked \
		-p tdxemu -p tmk -p vtl1 --target x86_64-unknown-none -Zbuild-std=core,compiler_builtins \
		--manifest-path "$MANIFEST" --quiet -- -D warnings
	clippy_module module mshv_vtl_tdx_main.o
	clippy_module client vtl1_client.o
	say "clippy: ok"
}

# clippy_module PART OBJECT: Kbuild lints only what it compiles, so the crate root is made to look new.
clippy_module() {
	local log=$BUILD/log/clippy-$1.log
	mkdir -p "$BUILD/log"
	find "$BUILD"/{module,vtl1_client} -name "$2" -delete 2>/dev/null || :
	CLIPPY=1 "$TOP/scripts/build.sh" "$1" >"$log" 2>&1 || { cat "$log"; die "the $1 does not build"; }
	if grep -E '^(warning|error)' "$log"; then
		cat "$log"
		die "clippy has complaints about the $1"
	fi
}

bad=0
complain() { printf '%s\n' "$*" >&2; bad=$((bad + 1)); }

# Longer files need a reason, which is given here.
LONG_FILES='^(tools/Cargo.lock|tools/tdx_model/src/(metadata/)?fields\.rs|include/uapi/.*\.h)$' # lock file; tables; one ABI, one header

lint_house() {
	local file
	while read -r file; do
		head -n 3 "$file" | grep -q 'SPDX-License-Identifier:' || complain "$file: no SPDX line"
	done < <(tracked '*.rs' '*.c' '*.h' '*.S' '*.sh' '*.toml' '*.rst' '*.ld' Makefile Kbuild '*/Makefile' '*/Kbuild')
	while read -r file; do
		[[ $file =~ $LONG_FILES ]] || [ "$(wc -l <"$file")" -le 500 ] || complain "$file: over 500 lines"
	done < <(tracked '*.rs' '*.c' '*.h' '*.S' '*.sh')
	house_unsafe
	house_layers
	house_kunit
	house_paths
	house_citations
	house_abi
	house_c
	house_commits
	house_versions
	house_licences
	house_reference
	house_checkpatch
	house_shellcheck
	[ "$bad" = 0 ] || die "$bad complaint(s) of the house lints"
	say "house lints: ok"
}

# What a slow tool had no complaint about; it sees a file again when that or this script changes.
# A line is the tool, the sum of the file, and its name.
CLEAN=$CACHE/lint-clean

# unseen TOOL: of the files on standard input, the lines that $CLEAN does not have.
unseen() {
	local recipe
	recipe=$(cat "$KSRC/scripts/checkpatch.pl" scripts/lint.sh | sha256sum | cut -c1-16)
	touch "$CLEAN"
	xargs -r sha256sum | sed "s/^/$1-$recipe /" | grep -vxFf "$CLEAN" || :
}

house_checkpatch() {
	local new
	new=$(c_sources | unseen checkpatch)
	[ -n "$new" ] || return 0
	# VOLATILE: a userspace test shares memory with the kernel and a guest.
	if awk '{ print $3 }' <<<"$new" | in_root xargs -r perl "$KSRC/scripts/checkpatch.pl" --no-tree \
		--quiet --terse --ignore FILE_PATH_CHANGES,SPDX_LICENSE_TAG,VOLATILE -f; then
		printf '%s\n' "$new" >>"$CLEAN"
	else
		complain "checkpatch has complaints"
	fi
}

# A script is checked together with those that it sources, so one new one brings all.
house_shellcheck() {
	local new
	new=$(tracked 'scripts/*.sh' scripts/init scripts/guest-init scripts/guest-vtl1 scripts/tdxemu dkms.conf .ci/run | unseen shellcheck)
	[ -n "$new" ] || return 0
	if in_root shellcheck -x scripts/*.sh scripts/init scripts/guest-init scripts/guest-vtl1 scripts/tdxemu dkms.conf .ci/run; then
		printf '%s\n' "$new" >>"$CLEAN"
	else
		complain "shellcheck has complaints"
	fi
}

# Each unsafe block names the fact it rests on, in the lines just above it.
house_unsafe() {
	local found
	found=$(tracked '*.rs' | xargs -r awk '
		FNR == 1 { seen = -99 }
		/SAFETY:/ { seen = FNR }
		/unsafe *\{/ && FNR - seen > 8 { print FILENAME ":" FNR ": unsafe without SAFETY" }')
	[ -z "$found" ] || complain "$found"
	while read -r found; do
		grep -q '^// UNSAFETY: ' "$found" || complain "$found: unsafe, and no UNSAFETY line that says what kind"
	done < <(tracked 'rust/*.rs' | xargs -r grep -lE '(^|[^_a-z])unsafe([^_a-z]|$).*[{]')
	# The head of the crate has the list of the module's.
	found=$(comm -3 <(tracked 'rust/*.rs' | xargs -r grep -lE 'unsafe *\{' | sort) \
		<(sed -nE '/^\/\/! ([a-z]+\/[a-z_]+ *)+$/s/\/\/! //p' rust/mshv_vtl_tdx_main.rs |
			tr -s ' ' '\n' | sed 's/.*/rust\/&.rs/' | sort))
	[ -z "$found" ] || complain "rust/mshv_vtl_tdx_main.rs: its list of files with unsafe blocks differs in $found"
	local blocks
	blocks=$(tracked 'rust/*' | xargs grep -hE 'unsafe *\{' | wc -l)
	[ "$blocks" -le 66 ] || complain "rust/: $blocks unsafe blocks, and coding-style.rst allows 66"
	blocks=$(tracked 'rust/*' | xargs grep -lE 'unsafe *\{' | wc -l)
	[ "$blocks" -le 13 ] || complain "rust/: unsafe blocks in $blocks files, and coding-style.rst allows 13"
	local area
	for area in rust tools/vtl tools/vtl_audit tools/vtlctl tools/vtlvmm tools/svm tools/tdxemu tools/tdx_model tools/tmk tools/vtl1 tools/checks/fuzz; do
		note "unsafe blocks in $area: $(tracked "$area/*.rs" "$area/**/*.rs" | sort -u |
			xargs -r cat | grep -cE 'unsafe *\{' || :)"
	done
}

# A citation begins with a tag that bibliography.rst expands.
house_citations() {
	local found tags
	tags=$(sed -nE 's/^([A-Z]+[0-9]?)  +[A-Zt].*/\1/p' Documentation/bibliography.rst | paste -sd'|')
	found=$(tracked 'rust/*' 'tools/*' 'selftests/*' | xargs grep -nE '\[(SDM|APM|ABI|TDP|GHCI|TLFS|BASE|ACPI)[^]]*\]' |
		grep -vE "\\[($tags)[] ]" || :)
	[ -z "$found" ] || complain "$found"
}

# Checks that files named by the documentation exist.
house_paths() {
	local page path
	# shellcheck disable=SC2016 # the grave accents are the document's
	while IFS=: read -r page path; do
		compgen -G "$path" >/dev/null || complain "$page: there is no $path"
	done < <(tracked 'Documentation/*.rst' '*.rst' | sort -u | xargs -r grep -oHE \
		'``(rust|tools|selftests|scripts|include)/[a-zA-Z0-9_/.*]+``' | tr -d '`')
}

# Imports and calls of C between the folders of rust/ point downwards only; and so do the call paths
# of the overview, which name existing files and functions.
house_layers() {
	{ tracked 'rust/*.c'; tracked 'rust/*.rs'; } | xargs -r awk -f scripts/layers.awk ||
		complain "rust/: an arrow points up"
	awk -f scripts/journeys.awk Documentation/overview.rst || complain "Documentation/overview.rst: a call path does not match the code"
}

# KUnit's assertions take no message; only the debug kernel's build would show that.
house_kunit() {
	local found
	# shellcheck disable=SC2016 # the dollars are Perl's
	found=$(tracked 'rust/*.rs' | xargs -r grep -lw kunit_tests | xargs -r perl -0ne '
		s/.*?\bkunit_tests\b//s;
		print "$ARGV: an assertion with a message: $1\n" while
			/\b(assert!\([^;]*,\s*"[^;]*|assert_(?:eq|ne)!\([^;]*,\s*"[^"]*\{[^;]*)\);/g')
	[ -z "$found" ] || complain "$found"
}

# No name and no structure of the ABI is without its line in the test of numbers.
house_abi() {
	local header=include/uapi/linux/mshv_vtl_tdx.h test=selftests/abi_layout.c name
	while read -r name; do
		grep -qw "$name" "$test" || complain "$test: nothing about $name"
	done < <(sed -nE 's/^#define (MSHV_[A-Z0-9_]+).*/\1/p' "$header")
	while read -r name; do
		grep -q "sizeof(struct $name)" "$test" || complain "$test: no size of struct $name"
	done < <(sed -nE 's/^struct (mshv_[a-z0-9_]+) \{/\1/p' "$header")
}

# Every C file of the module is in the table of coding-style.rst, which has no other, and says why it is C.
house_c() {
	local page=Documentation/coding-style.rst name
	# shellcheck disable=SC2016 # the grave accents are the document's
	while read -r name; do
		complain "$page: the table of C files and rust/ differ in $name"
	done < <(comm -3 <(tracked 'rust/*.c' | sed 's/^rust.//' | sort) \
		<(sed -n '/^What is C$/,/^Names$/p' "$page" | sed -nE 's/^``([a-z_/]+\.c)`` .*/\1/p' | sort))
	while read -r name; do
		complain "$name: no 'Stays C:' in its head"
	done < <(tracked 'rust/*.c' | xargs -r awk 'FNR == 1 { if (name && !good) print name; name = FILENAME; good = 0 }
		FNR <= 25 && /Stays C: / { good = 1 } END { if (!good) print name }')
}

# Form of commit messages, as in CONTRIBUTING.rst. Applies to commits after this one.
FORM_SINCE=ba6f67771043

house_commits() {
	local areas hash subject length
	git rev-parse --quiet --verify "$FORM_SINCE^{commit}" >/dev/null 2>&1 || return 0
	# shellcheck disable=SC2016 # the grave accents are the document's
	areas=$(sed -nE '/^Areas:/,/^$/p' CONTRIBUTING.rst | grep -oE '``[a-z0-9_/]+``' | tr -d '`' | paste -sd'|')
	while read -r hash; do
		subject=$(git log -1 --format=%s "$hash")
		length=${#subject}
		[ "$length" -le 72 ] || complain "commit $hash: the subject has $length characters, at most 72"
		[[ $subject =~ ^($areas):\ [a-z] ]] ||
			complain "commit $hash: '$subject' does not begin with an area of CONTRIBUTING.rst"
		git log -1 --format=%B "$hash" | grep -q '^Signed-off-by: ' ||
			complain "commit $hash: no Signed-off-by line"
	done < <(git log --no-merges --format=%h "$FORM_SINCE"..HEAD)
}

# One number: rust/glue/version.h has it, and what can't read that says the same.
house_versions() {
	local place text
	while IFS=: read -r place text; do
		grep -qxF -- "$text" "$place" || complain "$place: no line '$text', and rust/glue/version.h says $VTL_VERSION"
	done <<-END
	tools/Cargo.toml:version = "$VTL_VERSION"
	tools/Cargo.toml:tdx_model = { path = "tdx_model", version = "$VTL_VERSION" }
	tools/Cargo.toml:vtl = { path = "vtl", version = "$VTL_VERSION" }
	dkms.conf:PACKAGE_VERSION="$VTL_VERSION"
	END
	[ "$(sed -n '1s/.*(\(.*\)).*/\1/p' debian/changelog)" = "$VTL_VERSION" ] ||
		complain "debian/changelog: does not begin with $VTL_VERSION"
	[ "$(grep -m 1 -E '^[0-9.]+$' CHANGELOG.rst)" = "$VTL_VERSION" ] ||
		complain "CHANGELOG.rst: does not begin with $VTL_VERSION"
}

# The files of a crate have the licence of the crate; and what compiles the module's sources, its.
house_licences() {
	local manifest crate licence text
	mkdir -p "$BUILD/log"
	while read -r manifest; do
		crate=$(dirname "$manifest")
		licence=$(sed -nE 's/^license = "(.*)"/\1/p; s/^license.workspace = true/MIT OR GPL-2.0-only/p' "$manifest")
		tracked "$crate/*.rs" "$crate/*.S" "$crate/*.toml" | xargs grep -LE "SPDX-License-Identifier: $licence( |$)" |
			while read -r text; do echo "$text: not $licence, which $manifest says"; done
		if tracked "$crate/src/*.rs" | xargs grep -qE 'path = "[./]*rust/' && [ "$licence" != GPL-2.0-only ]; then
			echo "$manifest: $licence, and it compiles sources of the module"
		fi
	done < <(tracked 'tools/*/Cargo.toml') >"$BUILD/log/licences"
	tracked '*.rs' '*.c' '*.h' '*.S' '*.sh' '*.toml' '*.rst' | xargs head -qn 2 | grep -ohE 'SPDX-License-Identifier: .*' |
		sed 's/.*: //; s/ *[*]\/$//; s/ OR /\n/; s/ WITH /\n/; s/-only//g' | sort -u | while read -r text; do
		[ -e "LICENSES/$text" ] || echo "LICENSES/$text: missing"
	done >>"$BUILD/log/licences"
	[ ! -s "$BUILD/log/licences" ] || complain "$(cat "$BUILD/log/licences")"
}

lint_docs() {
	in_root python3 "$KSRC/scripts/kernel-doc" -none -Wall -Werror \
		"$TOP/include/uapi/linux/mshv_vtl_tdx.h" || die "the header's comments have faults"
	in_root env PYTHONDONTWRITEBYTECODE=1 sphinx-build -q -W --keep-going -b html \
		-d "$BUILD/doctrees" "$TOP/Documentation" "$BUILD/docs"
	in_root python3 "$TOP/scripts/docs-width.py" "$BUILD/docs" 100 || die "blocks of the documentation are too wide"
	say "documentation: build/docs/index.html"
}

case ${1:-} in
fmt | fmtcheck | clippy | house | docs) "lint_$1" ;;
*) die "unknown lint '${1:-}'" "known: fmt fmtcheck clippy house docs" ;;
esac
