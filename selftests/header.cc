// SPDX-License-Identifier: GPL-2.0
/*
 * The ABI's header alone, for a compiler of C++ and one of C: it needs nothing
 * before it, means nothing twice, and its structures have no hidden padding.
 */
#include <linux/mshv_vtl_tdx.h>

#include <linux/mshv_vtl_tdx.h>

unsigned long long vtl_header_is_used(const struct mshv_vtl_run *run);

unsigned long long vtl_header_is_used(const struct mshv_vtl_run *run)
{
	return run->tdx.entry_rcx & MSHV_TDX_ENTRY_VM_MASK;
}
