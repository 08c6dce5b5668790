// SPDX-License-Identifier: GPL-2.0
/*
 * The tracepoints themselves: vtl_trace.h, expanded once.
 *
 * Stays C: the kernel's macros generate tracepoints from the header.
 */
#define CREATE_TRACE_POINTS
#define CREATE_RUST_TRACE_POINTS
#include "vtl_trace.h"
