#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# `make test-install`: a release builds without git and without a network, `make install` puts each
# file where it belongs, and Debian's packages are built by a user who is not root, are accepted by
# lintian, are installed in a clean system, do their work there, and leave nothing behind. Prints KTAP;
# takes about ten minutes, and the network for packages of Debian.

# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/env.sh"
. "$TOP/scripts/archive.sh"

need_root "test-install"
# All that is mounted goes with the last process.
[ -n "${INNER:-}" ] || INNER=1 exec unshare --mount --propagation private -- "$0" "$@"

work=$(mktemp -d "$BUILD/test-install.XXXXXX")
trap 'umount -R "$work"/{build,clean}/root 2>/dev/null || :; rm -rf --one-file-system "$work"' EXIT
release=mshv_vtl_tdx-$VTL_VERSION
kernel=$(cat "$CACHE/kernel/release")
. "$TOP/scripts/check.sh"

# overlay NAME LOWER: a root of which $LOWER does not change.
overlay() {
	mkdir -p "$work/$1"/{upper,work,root}
	mount -t overlay overlay -o "lowerdir=$2,upperdir=$work/$1/upper,workdir=$work/$1/work" "$work/$1/root"
	mkdir -p "$work/$1/root$CACHE" "$work/$1/root/srv/test"
	chmod 1777 "$work/$1/root/srv/test"
	cp /etc/resolv.conf "$work/$1/root/etc/resolv.conf"
	printf '#!/bin/sh\nexit 101\n' >"$work/$1/root/usr/sbin/policy-rc.d"
	chmod 755 "$work/$1/root/usr/sbin/policy-rc.d"
}

# within NAME COMMAND...: as root of that system, with the cache to read only.
within() {
	local root=$work/$1/root
	shift
	# shellcheck disable=SC2016 # not this shell expands it
	env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 TERM=dumb \
		DEBIAN_FRONTEND=noninteractive CACHE="$CACHE" \
		unshare --mount --propagation private -- sh -ec '
			root=$1; shift
			mount -t proc proc "$root/proc"
			mount --rbind /dev "$root/dev"
			mount -t tmpfs tmpfs "$root/tmp"
			mount --bind -o ro "$CACHE" "$root$CACHE"
			exec chroot "$root" /bin/sh -c "cd /srv/test && exec \"\$@\"" sh "$@"' sh "$root" "$@"
}

# by_user NAME COMMAND...: by one who is not root.
by_user() {
	local name=$1
	shift
	within "$name" setpriv --reuid=4321 --regid=4321 --clear-groups --no-new-privs env HOME=/tmp "$@"
}

apt_install() { within "$1" sh -c 'apt-get update && shift && apt-get install -y --no-install-recommends "$@"' sh "$@"; }

release_is_made() {
	"$TOP/scripts/dist.sh" && mkdir "$work/plain" && tar -xJf "$BUILD/$release.tar.xz" -C "$work/plain"
}

# A git that fails, as where there is none.
release_passes_lints() {
	mkdir -p "$work/bin"
	printf '#!/bin/sh\nexit 127\n' >"$work/bin/git"
	chmod 755 "$work/bin/git"
	env -u BUILD PATH="$work/bin:$PATH" "$work/plain/$release/scripts/lint.sh" house
}

release_builds_the_module() {
	env -u BUILD "$work/plain/$release/scripts/build.sh" module &&
		[ "$(in_root modinfo -F version "$work/plain/$release/build/module/mshv_vtl_tdx.ko")" = "$VTL_VERSION" ]
}

install_puts_each_file() {
	local to=$work/destdir
	DESTDIR=$to PREFIX=/usr "$TOP/scripts/install.sh" module tools emulator docs dkms
	(cd "$to" && find . -type f ! -path './usr/share/doc/*' ! -path './usr/src/*' ! -name '*ctl-*.1' | sed 's/[.]ko[.].*/.ko/' | sort) |
		diff - <(sort <<-END
		./lib/modules/$kernel/updates/mshv_vtl_tdx.ko
		./usr/bin/tdxemu
		./usr/bin/vtl1ctl
		./usr/bin/vtlctl
		./usr/include/linux/mshv_vtl_tdx.h
		./usr/include/mshv_vtl.h
		./usr/lib/tdxemu/machine.sh
		./usr/lib/tdxemu/say.sh
		./usr/lib/tdxemu/tdxemu
		./usr/lib/tdxemu/version.h
		./usr/lib/udev/rules.d/60-mshv-vtl.rules
		./usr/lib/vtlctl/vtl1
		./usr/share/bash-completion/completions/vtl1ctl
		./usr/share/bash-completion/completions/vtlctl
		./usr/share/fish/vendor_completions.d/vtl1ctl.fish
		./usr/share/fish/vendor_completions.d/vtlctl.fish
		./usr/share/man/man1/tdxemu.1
		./usr/share/man/man1/vtl1ctl.1
		./usr/share/man/man1/vtlctl.1
		./usr/share/zsh/site-functions/_vtl1ctl
		./usr/share/zsh/site-functions/_vtlctl
		END
		) && [ -e "$to/usr/share/man/man1/vtlctl-boot.1" ] && [ -e "$to/usr/share/man/man1/vtl1ctl-unseal.1" ] && [ -e "$to/usr/share/doc/mshv_vtl_tdx/README.rst" ] &&
		[ -e "$to/usr/src/mshv-vtl-tdx-$VTL_VERSION/rust/pure/mod.rs" ] &&
		[ "$("$to/usr/bin/tdxemu" --version)" = "tdxemu $VTL_VERSION" ] &&
		[ "$("$to/usr/bin/vtlctl" --version)" = "vtlctl $VTL_VERSION" ]
}

what_is_installed_is_stripped() {
	! in_root readelf -S "$work"/destdir/usr/bin/{vtlctl,vtl1ctl} | grep '[.]debug_info'
}

# In a network of its own, of which not even the loopback is up.
packages_are_built() {
	overlay build "$ROOT"
	apt_install build build-essential debhelper dh-dkms lintian
	tar -xJf "$BUILD/$release.tar.xz" -C "$work/build/root/srv/test"
	chown -R 4321:4321 "$work/build/root/srv/test"
	within build unshare --net setpriv --reuid=4321 --regid=4321 --clear-groups env HOME=/tmp \
		sh -c "cd $release && dpkg-buildpackage -us -uc -b"
}

lintian_finds_no_error() {
	by_user build sh -c 'lintian --fail-on error --info ./*.changes'
}

packages_are_installed() {
	mmdebstrap --mode=root --variant=minbase --include=ca-certificates "$SUITE" "$work/base" \
		"$CACHE/root-sources.list"
	overlay clean "$work/base"
	cp "$work"/build/root/srv/test/*.deb "$work/clean/root/srv/test/"
	apt_install clean ./mshv-vtl-tdx-dkms_"$VTL_VERSION"_all.deb ./vtlctl_"$VTL_VERSION"_amd64.deb \
		./tdxemu_"$VTL_VERSION"_amd64.deb
}

commands_say_their_version() {
	[ "$(by_user clean vtlctl --version)" = "vtlctl $VTL_VERSION" ] &&
		[ "$(by_user clean tdxemu --version)" = "tdxemu $VTL_VERSION" ]
}

# What the tools in the kernel tree need, a package of headers would depend on.
dkms_builds_and_installs() {
	apt_install clean pahole libelf1t64 libdw1t64 kmod
	# As the kernel's package makes it; there is none here.
	mkdir -p "$work/clean/root/lib/modules/$kernel"
	within clean dkms install "mshv-vtl-tdx/$VTL_VERSION" -k "$kernel" --kernelsourcedir "$CACHE/kernel/obj" || {
		cat "$work/clean/root/var/lib/dkms/mshv-vtl-tdx/$VTL_VERSION"/{build,"$kernel"/x86_64/log}/make.log || :
		return 1
	}
	[ "$(within clean sh -c "modinfo -F version /lib/modules/$kernel/updates/dkms/mshv_vtl_tdx.ko*")" = "$VTL_VERSION" ]
}

# The headers that Debian packages have no Rust metadata: DKMS must skip such a kernel, for else no
# package of a kernel could be installed beside this one.
dkms_skips_headers_without_rust() {
	local status=0
	within clean dkms build "mshv-vtl-tdx/$VTL_VERSION" -k "$kernel-headers" \
		--kernelsourcedir "$CACHE/kernel/debs/x/usr/src/linux-headers-$kernel" || status=$?
	[ "$status" = 77 ]
}

# The module in that initial RAM disk is the one of the tests; the user has nothing but the package.
a_user_boots_a_td() {
	cp "$CACHE/kernel/vmlinuz" "$BUILD/initramfs" "$work/clean/root/srv/test/"
	by_user clean timeout 600 tdxemu --append "panic=-1 vtl.do=run" vmlinuz initramfs | tee "$work/console"
	grep -q 'tdx: Guest detected' "$work/console" && grep -q '^=== VTL2 status: 0' "$work/console"
}

nothing_is_left() {
	within clean dpkg --status mshv-vtl-tdx-dkms vtlctl tdxemu >/dev/null || return 1
	within clean apt-get purge -y mshv-vtl-tdx-dkms vtlctl tdxemu
	! (cd "$work/clean/root" && find etc usr var/lib lib/modules \( -name '*mshv*' -o -name '*vtlctl*' -o -name '*tdxemu*' \) \
		! -path 'var/lib/apt/*' | grep .)
}

echo "KTAP version 1"
echo "1..13"
check a_release_is_made release_is_made
check a_release_passes_the_lints_without_git release_passes_lints
check a_release_builds_the_module release_builds_the_module
check make_install_puts_each_file_where_it_belongs install_puts_each_file
check installed_commands_have_no_debug_information what_is_installed_is_stripped
check packages_are_built_by_a_user_without_a_network packages_are_built
check lintian_finds_no_error lintian_finds_no_error
check packages_are_installed_in_a_clean_system packages_are_installed
check commands_say_their_version commands_say_their_version
check dkms_builds_and_installs_the_module dkms_builds_and_installs
check dkms_skips_headers_without_rust dkms_skips_headers_without_rust
check a_user_boots_a_td_with_the_installed_emulator a_user_boots_a_td
check purging_leaves_nothing nothing_is_left
[ "$failed" = 0 ]
