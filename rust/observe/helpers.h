/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Events of the control plane (event.c), and what attestation needs of the kernel
 * (attest.c).
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
	VTL_EVENT_ATTESTED,
	VTL_EVENT_NOTED,
	VTL_EVENT_KINDS,
};

bool vtl_event_admit(u32 kind);
void vtl_event_log(u32 kind, const char *text);
void vtl_event_storm(u32 cpu, u32 kind, u32 thread, u64 ticks);
void vtl_event_flush(void);

/* What the first event says of module and kernel. */
struct vtl_attest_facts {
	u8 build_id[20];
	u8 release[64];
};

u32 vtl_attest_mode(void);
void vtl_attest_facts(struct vtl_attest_facts *facts);
void vtl_attest_prepare(void (*checkpoint)(void));
void vtl_attest_start(u32 interval_s);
void vtl_attest_stop(void);
u64 vtl_boot_ns(void);
u32 vtl_user(void);
bool vtl_is_online(u32 cpu);

#endif
