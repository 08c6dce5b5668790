#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# The first paravisors of the guide, in Rust and in C, unchanged. Prints KTAP.

command -v first_paravisor >/dev/null || { echo "1..0 # SKIP no first_paravisor in PATH"; exit 4; }
# shellcheck source=selftests/result.sh
. ./result.sh

echo "TAP version 13"
echo "1..4"
said=$(first_paravisor)
result $? it_runs_its_guest_to_the_end
[ "$said" = "hello from VTL0" ]
result $? and_prints_what_the_guest_says
said=$(./first_paravisor)
result $? in_c_it_runs_its_guest_to_the_end
[ "$said" = "hello from VTL0" ]
result $? in_c_it_prints_what_the_guest_says
[ $failed = 0 ]
