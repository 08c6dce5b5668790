/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Events of the control plane (event.c).
 */
#ifndef _MSHV_VTL_TDX_OBSERVE_HELPERS_H
#define _MSHV_VTL_TDX_OBSERVE_HELPERS_H

#include <linux/types.h>

/* Each kind has a rate limit of its own; event.rs describes them. */
enum vtl_event {
	VTL_EVENT_LOADED,
	VTL_EVENT_VTL_CREATED,
	VTL_EVENT_PAGE_ATTRIBUTES,
	VTL_EVENT_TDCALL_REFUSED,
	VTL_EVENT_HYPERCALL_REFUSED,
	VTL_EVENT_EXIT_STORM,
	VTL_EVENT_KINDS,
};

bool vtl_event_admit(u32 kind);
void vtl_event_log(const char *text);
void vtl_event_storm(u32 cpu, u32 kind, u32 thread, u64 ticks);
void vtl_event_flush(void);

#endif
