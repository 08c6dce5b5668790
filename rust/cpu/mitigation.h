/* SPDX-License-Identifier: GPL-2.0 */
/* What the choice of speculation defences depends on; mitigation.c says more. */
#ifndef _MSHV_VTL_TDX_MITIGATION_H
#define _MSHV_VTL_TDX_MITIGATION_H

#include <linux/types.h>

u32 vtl_mitigation_mode(void);
u32 vtl_mitigation_facts(void);

#endif
