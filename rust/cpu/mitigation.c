// SPDX-License-Identifier: GPL-2.0
/*
 * The parameter mitigations=, and what this kernel knows of the processor's
 * bugs.
 *
 * Stays C: parameters of the kernel crate are numbers, not texts, and the facts
 * about the processor are inline functions of bits.
 */
#include <linux/cpu.h>
#include <linux/moduleparam.h>
#include <linux/string.h>
#include <asm/cpufeature.h>

#include "helpers.h"

static char vtl_mitigations[VTL_MITIGATIONS_BYTES] = "auto";

module_param_string(mitigations, vtl_mitigations, sizeof(vtl_mitigations),
		    0444);
MODULE_PARM_DESC(
	mitigations,
	"Speculation defences of a switch: auto (what the CPU needs), full (all it has), off, user (auto, but without IBPB on each exit), or a list of verw, rsb, ibpb-exit, bhb, ibpb");

/*
 * Returns a byte of the parameter's value, 0 after its end. The loader sets it
 * before init runs.
 */
u8 vtl_mitigations_given(u32 at)
{
	return at < sizeof(vtl_mitigations) ? vtl_mitigations[at] : 0;
}

/*
 * Sets the value that sysfs shows. Called during init, before sysfs can read
 * it.
 */
void vtl_mitigations_show(const char *text)
{
	strscpy(vtl_mitigations, text);
}

u32 vtl_mitigation_facts(void)
{
	u32 facts = 0;

	if (boot_cpu_has(X86_FEATURE_IBPB))
		facts |= VTL_HAS_IBPB;
	if (boot_cpu_has(X86_FEATURE_MD_CLEAR))
		facts |= VTL_HAS_MD_CLEAR;
	if (boot_cpu_has_bug(X86_BUG_SPECTRE_V2))
		facts |= VTL_BUG_BRANCH_TARGETS;
	/* SPEC_CTRL prevents it if the processor has that control. */
	if (boot_cpu_has_bug(X86_BUG_BHI) &&
	    !boot_cpu_has(X86_FEATURE_CLEAR_BHB_HW))
		facts |= VTL_BUG_BRANCH_HISTORY;
	if (boot_cpu_has_bug(X86_BUG_MDS) || boot_cpu_has_bug(X86_BUG_TAA) ||
	    boot_cpu_has_bug(X86_BUG_MMIO_STALE_DATA) ||
	    boot_cpu_has_bug(X86_BUG_RFDS))
		facts |= VTL_BUG_BUFFERS;
	if (cpu_mitigations_off())
		facts |= VTL_KERNEL_OFF;
	return facts;
}
