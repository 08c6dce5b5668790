// SPDX-License-Identifier: GPL-2.0
/*
 * Functions for a Hyper-V host below. A kernel without Hyper-V support never
 * detects one.
 *
 * Stays C: inline functions that depend on the kernel's configuration.
 */
#include <linux/cc_platform.h>
#include <linux/mm.h>
#include <linux/set_memory.h>
#include <asm/coco.h>
#include <asm/mshyperv.h>

#include "helpers.h"

/*
 * Returns true if the host is Hyper-V, and the TD uses it without a paravisor.
 */
bool vtl_is_on_hyper_v(void)
{
#if IS_ENABLED(CONFIG_HYPERV)
	return hv_isolation_type_tdx();
#else
	return false;
#endif
}

/* Both pages are shared with the host. Returns its answer unchecked. */
u64 vtl_hypercall(u64 control, u64 input_phys, u64 output_phys)
{
#if IS_ENABLED(CONFIG_HYPERV)
	return hv_tdx_hypercall(control, cc_mkdec(input_phys),
				cc_mkdec(output_phys));
#else
	return U64_MAX;
#endif
}

/* Shares a page and zeroes it. On failure the state of the page is unknown. */
int vtl_share_page(struct page *page)
{
	int err = set_memory_decrypted((unsigned long)page_address(page), 1);

	if (!err)
		clear_page(page_address(page));
	return err;
}

/* As vtl_share_page(). */
int vtl_unshare_page(struct page *page)
{
	return set_memory_encrypted((unsigned long)page_address(page), 1);
}
