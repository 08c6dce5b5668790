/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The synthetic interrupt controller (SynIC) of a Hyper-V host; synic.c says
 * why each function. rust/hv/synic.rs uses them.
 */
#ifndef _MSHV_VTL_TDX_HV_SYNIC_H
#define _MSHV_VTL_TDX_HV_SYNIC_H

#include <linux/types.h>
#include <linux/poll.h>

enum vtl_synic {
	VTL_SYNIC_FREE,
	/* Another driver has set it up. */
	VTL_SYNIC_TAKEN,
	/* The host has none, or refuses it. */
	VTL_SYNIC_NONE,
};

struct eventfd_ctx;
struct kiocb;

void vtl_synic_start(void (*interrupt)(const void *argument),
		     void (*deferred)(const void *argument),
		     bool (*is_ready)(const void *argument),
		     const void *argument);
void vtl_synic_defer(void);
void vtl_synic_stop(void);

enum vtl_synic vtl_synic_find(void);
void vtl_synic_on(u64 messages_phys, u64 events_phys, bool masked);
void vtl_synic_off(void);
void vtl_synic_mask_all(bool masked);
void vtl_synic_eom(void);
void vtl_synic_eom_on(u32 cpu);

int vtl_synic_wait(void);
void vtl_synic_wake(void);
__poll_t vtl_synic_poll(struct file *file, poll_table *table);
bool vtl_is_nonblocking(struct kiocb *kiocb);
void vtl_eventfd_signal(struct eventfd_ctx *eventfd);

#endif
