/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Functions for a Hyper-V host below (helpers.c), and its synthetic interrupt
 * controller, the SynIC (synic.c).
 */
#ifndef _MSHV_VTL_TDX_HV_HELPERS_H
#define _MSHV_VTL_TDX_HV_HELPERS_H

#include <linux/types.h>

struct page;

bool vtl_is_on_hyper_v(void);
u64 vtl_hypercall(u64 control, u64 input_phys, u64 output_phys);
int vtl_share_page(struct page *page);
int vtl_unshare_page(struct page *page);

/* The SINT for messages about a lower VTL, and that of VTL2's VMBus. */
enum vtl_sint {
	VTL_SINT_INTERCEPTION = 0,
	VTL_SINT_VMBUS = 7,
};

enum vtl_synic {
	VTL_SYNIC_FREE,
	/* Another driver uses it. */
	VTL_SYNIC_TAKEN,
	/* The host has none, or refuses it. */
	VTL_SYNIC_NONE,
};

void vtl_synic_start(void (*interrupt)(const void *argument),
		     void (*deferred)(const void *argument),
		     const void *argument);
void vtl_synic_defer(void);
void vtl_synic_stop(void);

enum vtl_synic vtl_synic_find(void);
void vtl_synic_on(u64 messages_phys, u64 events_phys, bool masked);
void vtl_synic_off(void);
void vtl_synic_mask_all(bool masked);
void vtl_synic_eom(void);
void vtl_synic_eom_on(u32 cpu);

#endif
