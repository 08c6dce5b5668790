/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What mappings of lower-VTL memory need of the kernel and Rust can't see.
 */
#ifndef _MSHV_VTL_TDX_MEM_HELPERS_H
#define _MSHV_VTL_TDX_MEM_HELPERS_H

#include <linux/types.h>

struct vm_area_struct;

#define VTL_PMD_ORDER 9
#define VTL_PUD_ORDER 18

void vtl_low_prepare(struct vm_area_struct *vma, bool is_shared);
bool vtl_is_listed_memory(u64 start, u64 len_bytes);

#endif
