/* SPDX-License-Identifier: GPL-2.0 */
/* Helpers of rust/cpu that are not Rust: see mitigation.c and gs_base.S. */
#ifndef _MSHV_VTL_TDX_CPU_HELPERS_H
#define _MSHV_VTL_TDX_CPU_HELPERS_H

#include <linux/bits.h>
#include <linux/types.h>

/* The flags of Facts in pure/mitigation.rs. */
enum vtl_fact {
	VTL_HAS_IBPB = BIT(0),
	VTL_HAS_MD_CLEAR = BIT(1),
	VTL_BUG_BRANCH_TARGETS = BIT(2),
	VTL_BUG_BRANCH_HISTORY = BIT(3),
	VTL_BUG_BUFFERS = BIT(4),
	VTL_KERNEL_OFF = BIT(5),
};

/*
 * Size of the parameter: a list of all defences fits, even with each named
 * twice.
 */
#define VTL_MITIGATIONS_BYTES 128

u8 vtl_mitigations_given(u32 at);
void vtl_mitigations_show(const char *text);
u32 vtl_mitigation_facts(void);

u64 vtl_read_kernel_gs_base(void);

#endif
