#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# The KUnit suites of the module, which ran when it was loaded: reads their results.
# Prints KTAP.

. "$(dirname "$0")/result.sh"

[ -d /sys/kernel/debug/kunit ] || mount -t debugfs debugfs /sys/kernel/debug
results=$(cat /sys/kernel/debug/kunit/vtl_*/results)

# "    ok 3 name" below "    # Subtest: suite"
cases() {
	echo "$results" | awk '$1 == "#" && $2 == "Subtest:" { suite = $3 }
		/^ +(not )?ok [0-9]/ { good = $1 == "ok"; print !good, suite "." $(good ? 3 : 4) }'
}

count=$(cases | wc -l)
echo "TAP version 13"
if [ "$count" = 0 ]; then
	echo "1..1"
	echo "not ok 1 the module brought no suite"
	exit 1
fi
echo "1..$count"
while read -r status name; do
	result "$status" "$name"
done <<-EOF
	$(cases)
EOF
[ "$failed" = 0 ] || echo "$results" | grep -v ' ok ' | sed 's/^/# /'
[ "$failed" = 0 ]
