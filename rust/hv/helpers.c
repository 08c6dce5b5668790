// SPDX-License-Identifier: GPL-2.0
/*
 * What the kernel offers for a Hyper-V host below, as functions. A kernel
 * without Hyper-V support never finds itself on one.
 *
 * Stays C: inline functions, of which the kernel's configuration decides.
 */
#include <linux/cc_platform.h>
#include <linux/mm.h>
#include <linux/set_memory.h>
#include <asm/coco.h>
#include <asm/mshyperv.h>

#include "helpers.h"

/* Whether the host is Hyper-V, below a TD that sees it directly. */
bool vtl_is_on_hyper_v(void)
{
#if IS_ENABLED(CONFIG_HYPERV)
	return hv_isolation_type_tdx();
#else
	return false;
#endif
}

/* The pages are shared with the host. Returns its answer, whatever it is. */
u64 vtl_hypercall(u64 control, u64 input_phys, u64 output_phys)
{
#if IS_ENABLED(CONFIG_HYPERV)
	return hv_tdx_hypercall(control, cc_mkdec(input_phys),
				cc_mkdec(output_phys));
#else
	return U64_MAX;
#endif
}

/* An address by its private alias. */
u64 vtl_without_shared(u64 gpa)
{
	return gpa & ~cc_mkdec(0);
}

/* On failure the state of the page is unknown. It is zeroed on success. */
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
