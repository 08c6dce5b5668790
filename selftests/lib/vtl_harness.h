/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The kernel's test harness, with patience: a case may take longer than its half
 * a minute in a TD under emulation, on a kernel with checks, on a busy machine.
 * A program that hangs is ended by run_selftests.sh.
 */
#ifndef VTL_HARNESS_H
#define VTL_HARNESS_H

#include "kselftest_harness.h"

#undef TEST_TIMEOUT_DEFAULT
#define TEST_TIMEOUT_DEFAULT 600 /* seconds */

#endif /* VTL_HARNESS_H */
