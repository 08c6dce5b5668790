#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# A disk and a network of QEMU's, which reach what this kernel shares with its host: Linux's drivers use
# them as on any confidential machine. The first block of the disk has the SHA-256 of what is behind it, except
# for the last one; the network ends in QEMU. Needs both (DISK= and NET=1 of scripts/machine.sh). Who gives them
# says so on the command line (tests.virtio=1): then nothing is skipped. Prints KTAP.

. "$(dirname "$0")/result.sh"

DISK=/dev/vda
BLOCK=4096

# Another kernel may have the drivers built in.
load() {
	for driver in virtio_blk failover net_failover virtio_net; do
		[ ! -e /lib/$driver.ko ] || insmod /lib/$driver.ko
	done
}

sum() { sha256sum | cut -d ' ' -f 1; }

can_be_read() {
	[ -b $DISK ] || return 1
	blocks=$(($(blockdev --getsize64 $DISK) / BLOCK))
	[ "$(dd if=$DISK bs=$BLOCK skip=1 count=$((blocks - 2)) 2>/dev/null | sum)" = "$(head -c $BLOCK $DISK | sed -n 's/^sha256 //p')" ]
}

can_be_written() {
	[ -b $DISK ] || return 1
	head -c $BLOCK /dev/urandom >/tmp/written
	dd if=/tmp/written of=$DISK bs=$BLOCK seek=$((blocks - 1)) conv=fsync 2>/dev/null || return 1
	echo 3 >/proc/sys/vm/drop_caches
	dd if=$DISK bs=$BLOCK skip=$((blocks - 1)) 2>/dev/null | cmp - /tmp/written
}

answers() {
	ip link set eth0 up && ip address add 10.0.2.15/24 dev eth0 && ping -c 3 -W 5 10.0.2.2 >/dev/null
}

no_complaint() { ! dmesg | grep -E 'virtio.*(fail|error)|I/O error'; }

both_are_there() { [ -b $DISK ] && [ -e /sys/class/net/eth0 ]; }

is_promised() { grep -q 'tests\.virtio=1' /proc/cmdline; }

if ! is_promised && [ -z "$(ls -A /sys/bus/virtio/devices 2>/dev/null)" ]; then
	echo "1..0 # SKIP this machine has no virtio devices"
	exit 4
fi
echo "TAP version 13"
echo "1..5"
load && both_are_there
result $? drivers_find_their_devices
can_be_read
result $? a_disk_can_be_read
can_be_written
result $? a_disk_can_be_written
answers
result $? a_network_answers
no_complaint
result $? the_kernel_has_no_complaint
[ "$failed" = 0 ]
