/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Waiting and waking, as far as the kernel has only inline functions and macros
 * for it. wake.c says why for each; rust/vp/wake.rs and rust/nodes/poll_file.rs
 * use them.
 */
#ifndef _MSHV_VTL_TDX_VP_HELPERS_H
#define _MSHV_VTL_TDX_VP_HELPERS_H

#include <linux/types.h>

struct file;
struct rcuwait;
struct vtl_poll;

int vtl_sleep(struct rcuwait *sleeper, bool (*is_awake)(void *argument),
	      void *argument, u64 most_ns, u64 slack_ns);
void vtl_send_reschedule(u32 cpu);
bool vtl_need_resched(void);
bool vtl_yield(void);

struct vtl_poll *vtl_poll_new(struct file *file, void (*wake)(void *argument),
			      void *argument);
void vtl_poll_free(struct vtl_poll *poll);

void *vtl_descriptors(void);
bool vtl_has_descriptor(const struct file *file);
bool vtl_was_last_descriptor(const struct file *file, const void *table);

#endif
