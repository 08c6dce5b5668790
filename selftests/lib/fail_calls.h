/* SPDX-License-Identifier: GPL-2.0 */
/* The calls of fail_nth.c, and what they work on. */
#ifndef VTL_FAIL_CALLS_H
#define VTL_FAIL_CALLS_H

#include "vtl_util.h"

struct world {
	struct vtl_guest guest;
	int mshv, low, hvcall, sint, event, fail_nth;
	uint64_t base;
	void *image;
	size_t image_size;
};

/* One call, or some that belong together. What they make, they take back. */
struct fail_call {
	const char *name;
	int (*call)(struct world *world); /* 0, or the negative errno */
	bool needs_hyperv;
};

extern const struct fail_call fail_calls[];
extern const size_t fail_call_count;

#endif /* VTL_FAIL_CALLS_H */
