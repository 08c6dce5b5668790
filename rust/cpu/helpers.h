/* SPDX-License-Identifier: GPL-2.0 */
/* What the choice of speculation defences depends on; mitigation.c says more. */
#ifndef _MSHV_VTL_TDX_CPU_HELPERS_H
#define _MSHV_VTL_TDX_CPU_HELPERS_H

#include <linux/bits.h>
#include <linux/types.h>

/* Facts of pure/mitigation.rs. */
enum vtl_fact {
	VTL_HAS_IBPB = BIT(0),
	VTL_HAS_MD_CLEAR = BIT(1),
	VTL_BUG_BRANCH_TARGETS = BIT(2),
	VTL_BUG_BRANCH_HISTORY = BIT(3),
	VTL_BUG_BUFFERS = BIT(4),
	VTL_KERNEL_OFF = BIT(5),
};

u32 vtl_mitigation_mode(void);
u32 vtl_mitigation_facts(void);

#endif
