#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Every command of the devices through the crate `vtl`: its example every_command,
# which prints KTAP.

command -v every_command >/dev/null || { echo "1..0 # SKIP no every_command in PATH"; exit 4; }
exec every_command
