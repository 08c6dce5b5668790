/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Interrupts of this kernel that stand for interrupts of the lower VTLs.
 */
#ifndef _MSHV_VTL_TDX_REDIRECT_H
#define _MSHV_VTL_TDX_REDIRECT_H

#include <linux/types.h>

/* What the kernel gave for a redirected interrupt. */
struct vtl_redirect {
	u32 irq;
	u32 vector;
};

int vtl_redirect_init(void);
void vtl_redirect_exit(void);
int vtl_redirect_new(u32 cpu, void (*arrived)(void *argument), void *argument,
		     struct vtl_redirect *redirect);
void vtl_redirect_free(u32 irq);

#endif
