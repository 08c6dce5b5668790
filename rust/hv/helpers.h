/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the kernel offers for a Hyper-V host below; helpers.c says why each.
 */
#ifndef _MSHV_VTL_TDX_HV_HELPERS_H
#define _MSHV_VTL_TDX_HV_HELPERS_H

#include <linux/types.h>

struct page;

bool vtl_is_on_hyper_v(void);
u64 vtl_without_shared(u64 gpa);
u64 vtl_hypercall(u64 control, u64 input_phys, u64 output_phys);
int vtl_share_page(struct page *page);
int vtl_unshare_page(struct page *page);

#endif
