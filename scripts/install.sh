#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# `make install [DESTDIR=] [PREFIX=]`: installs what was built:
#   install.sh [module] [tools] [emulator] [docs] [dkms]      by default all but dkms
# Below DESTDIR nothing is changed but files: for a package, or to look at them first.

# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/env.sh"

DESTDIR=${DESTDIR:-} PREFIX=${PREFIX:-/usr/local}
case $PREFIX in /*) ;; *) die "PREFIX=$PREFIX is not an absolute path" "example: PREFIX=/usr" ;; esac
case $DESTDIR in '' | /*) ;; *) DESTDIR=$PWD/$DESTDIR ;; esac
to=$DESTDIR$PREFIX

# built FILE TARGET: it was built.
built() { [ -e "$1" ] || die "$1 is missing" "build it with: make $2"; }

# put MODE FILE FOLDER
put() { install -D -m "$1" -t "$3" "$2"; }

# put_program FILE FOLDER: without its debug information, which is nine tenths of it.
put_program() {
	local stripped=$BUILD/stripped/${1##*/}
	mkdir -p "${stripped%/*}"
	in_root strip -o "$stripped" "$1"
	put 755 "$stripped" "$2"
}

# By Kbuild's own modules_install, which also signs if the kernel's build does; first to a folder that
# the build root can reach.
install_module() {
	local staging=$BUILD/module.installed release
	built "$BUILD/module/mshv_vtl_tdx.ko" modules
	rm -rf "$staging"
	kernel_make M="$TOP" MO="$BUILD/module" INSTALL_MOD_PATH="$staging" INSTALL_MOD_STRIP=1 \
		DEPMOD=true modules_install
	release=$(basename "$staging"/lib/modules/*)
	rm -f "$staging/lib/modules/$release"/{build,source}
	mkdir -p "$DESTDIR/lib/modules"
	cp -r "$staging/lib/modules/$release" "$DESTDIR/lib/modules/"
	rm -rf "$staging"
	[ -n "$DESTDIR" ] || depmod "$release"
}

install_tools() {
	local file
	built "$BUILD/vtlctl" tools
	put_program "$BUILD/vtlctl" "$to/bin"
	put_program "$BUILD/vtl1ctl" "$to/bin"
	put 644 "$BUILD/vtl1" "$to/lib/vtlctl"
	(cd "$BUILD/share" && find . -type f) | while read -r file; do
		put 644 "$BUILD/share/$file" "$to/share/$(dirname "$file")"
	done
	put 644 "$TOP/scripts/60-mshv-vtl.rules" "$to/lib/udev/rules.d"
	put 644 "$TOP/include/uapi/linux/mshv_vtl_tdx.h" "$to/include/linux"
	put 644 "$TOP/include/mshv_vtl.h" "$to/include"
}

install_emulator() {
	local file
	built "$BUILD/tdxemu" emulator
	put 755 "$TOP/scripts/tdxemu" "$to/bin"
	for file in "$TOP"/{scripts/machine.sh,scripts/say.sh,rust/glue/version.h} "$BUILD/tdxemu"; do
		put 644 "$file" "$to/lib/tdxemu"
	done
	put 644 "$TOP/scripts/tdxemu.1" "$to/share/man/man1"
}

# As HTML where it was built (make docs), else as it was written.
install_docs() {
	local doc=$to/share/doc/mshv_vtl_tdx
	mkdir -p "$doc"
	cp "$TOP"/{README.rst,CHANGELOG.rst,SECURITY.rst,LICENSE} "$doc/"
	if [ -e "$BUILD/docs/index.html" ]; then
		rm -rf "$doc/html"
		cp -r "$BUILD/docs" "$doc/html"
	else
		cp "$TOP"/Documentation/*.rst "$doc/"
	fi
}

# Sources for DKMS, which builds them for each kernel.
install_dkms() {
	local src=$DESTDIR/usr/src/mshv-vtl-tdx-$VTL_VERSION file
	(cd "$TOP" && find Kbuild dkms.conf LICENSE rust include \
		-type f ! -name '*.cmd' ! -name '*.o' ! -name bindings_generated.rs) | while read -r file; do
		install -D -m "$(stat -c %a "$TOP/$file")" "$TOP/$file" "$src/$file"
	done
}

[ $# != 0 ] || set -- module tools emulator docs
for part; do
	case $part in
	module | tools | emulator | docs | dkms) "install_$part" ;;
	*) die "unknown part '$part'" "known: module tools emulator docs dkms" ;;
	esac
	note "installed: $part"
done
