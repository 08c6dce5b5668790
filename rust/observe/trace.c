// SPDX-License-Identifier: GPL-2.0
/* The tracepoints themselves: vtl_trace.h, expanded once. */
#define CREATE_TRACE_POINTS
#define CREATE_RUST_TRACE_POINTS
#include "vtl_trace.h"
