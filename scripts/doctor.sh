#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# `make doctor`: what is present, missing or broken, and what to do about it. Exits with 0 only if
# everything that a run needs is present and intact.

# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/env.sh"
. "$TOP/scripts/archive.sh"

missing=0

good() { printf '  ok       %s\n' "$*"; }
# lacks WHAT REMEDY
lacks() {
	printf '  %smissing%s  %s\n           -> %s\n' "$RED" "$PLAIN" "$1" "$2"
	missing=$((missing + 1))
}

echo "machine"
if [ "$(uname -m)" = x86_64 ]; then good "x86-64"; else lacks "an x86-64 processor" "use another machine"; fi
if [ "$(id -u)" = 0 ]; then good "root"; else lacks "root" "run as root: the build root is entered with chroot"; fi
if unshare --mount true 2>/dev/null; then good "private mount namespaces"; else
	lacks "permission to make mount namespaces" "run outside a restricted container"
fi
if plain=$(need_plain_paths 2>&1); then good "paths that make can use"; else
	lacks "paths that make can use: ${plain%%$'\n'*}" "move this clone, or set MSHV_VTL_CACHE"
fi
if [ -e "$ROOT/.complete" ]; then
	good "build root: nothing more is needed from Debian's archive"
else
	if command -v mmdebstrap >/dev/null; then good "mmdebstrap"; else
		lacks "mmdebstrap" "make setup installs it by apt; elsewhere install it by hand"
	fi
	if mirror=$(find_mirror); then good "mirror of Debian: $mirror"; else
		lacks "a mirror of Debian in the apt sources" "make setup DEBIAN_MIRROR=http://YOUR.MIRROR/debian"
	fi
	if [ -e "$DEBIAN_KEYS" ]; then good "keys of Debian"; else
		lacks "keys of Debian" "apt-get install debian-archive-keyring"
	fi
fi
free=$(free_mib "$CACHE") || free=
if [ -e "$CACHE/stamp/tree" ] || [ "${free:-0}" -ge "$NEED_MIB" ]; then
	good "room: ${free:-?} MiB free"
else
	lacks "room: ${free:-0} MiB free, a set-up needs $NEED_MIB" "free some, or set MSHV_VTL_CACHE"
fi

echo "cache: $CACHE"
for part in "root:$ROOT/.complete:build root" "kernel:$KIMAGE:stock kernel" \
	"source:$KSRC/MAINTAINERS:kernel source" "tree:$KOBJ/scripts/module.lds:prepared kernel tree"; do
	IFS=: read -r name file text <<<"$part"
	if [ -e "$CACHE/stamp/$name" ] && [ -e "$file" ]; then good "$text"
	elif [ "$name" = tree ] && [ -n "${KDIR:-}" ] && [ -e "$file" ]; then good "$text (KDIR=$KDIR)"
	elif [ -e "$CACHE/stamp/$name" ]; then
		lacks "$text: was set up, but $file is gone" "rm $CACHE/stamp/$name && make setup"
	else lacks "$text" "make setup"; fi
done
crates=$(sha256sum "$TOP/tools/Cargo.lock" | cut -c1-16)
if [ "$(cat "$CACHE/stamp/crates" 2>/dev/null)" != "$crates" ]; then
	lacks "crates of the tools, as tools/Cargo.lock has them" "make setup"
elif [ ! -d "$CARGO_CACHE/registry/cache" ]; then
	lacks "crates of the tools: were fetched, but $CARGO_CACHE/registry is gone" "rm $CACHE/stamp/crates && make setup"
else
	good "crates of the tools"
fi
if tree_was_moved; then
	lacks "prepared kernel tree: the cache was moved" "make setup prepares the tree again, in five minutes"
fi
if [ -s "$CACHE/kernel/SHA256SUMS" ]; then
	if (cd "$CACHE/kernel" && sha256sum --quiet -c SHA256SUMS) >/dev/null 2>&1; then
		good "checksums of the kernel files"
	else
		lacks "kernel files are damaged" "rm $CACHE/stamp/kernel $CACHE/stamp/source $CACHE/stamp/tree && make setup"
	fi
fi
if [ -e "$ROOT/.complete" ] && [ "$(id -u)" = 0 ]; then
	for tool in rustc cargo bindgen x86_64-linux-gnu-gcc-14 qemu-system-x86_64; do
		if version=$(in_root "$tool" --version 2>/dev/null | head -n 1); then good "$version"; else
			lacks "$tool in the build root" "rm -r $ROOT $CACHE/stamp/root && make setup"
		fi
	done
fi

echo "built in this clone"
for file in module/mshv_vtl_tdx.ko tdxemu vtlctl initramfs; do
	if [ -s "$BUILD/$file" ]; then good "build/$file"; else printf '  not yet  build/%s (make run builds it)\n' "$file"; fi
done

if [ "$missing" != 0 ]; then
	echo "$missing thing(s) missing"
	exit 1
fi
echo "all there"
