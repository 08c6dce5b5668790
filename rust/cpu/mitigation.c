// SPDX-License-Identifier: GPL-2.0
/*
 * The parameter mitigations=auto|full|off|user, or a list of defences, which the kernel crate's parameters
 * can't express, and what this kernel knows of its processor's bugs.
 */
#include <linux/bits.h>
#include <linux/cpu.h>
#include <linux/moduleparam.h>
#include <linux/string.h>
#include <linux/sysfs.h>
#include <asm/cpufeature.h>

#include "helpers.h"

/* Places are the numbers of Mode and of NAMES in pure/mitigation.rs. */
static const char *const vtl_modes[] = { "auto", "full", "off", "user" };
static const char *const vtl_defences[] = { "verw", "rsb", "ibpb-exit", "bhb",
					    "ibpb" };
static u32 vtl_mode;

/* In the first byte; the second one says which defences then. */
#define VTL_MODE_ONLY ARRAY_SIZE(vtl_modes)

static int vtl_list_parse(const char *text)
{
	char copy[32], *rest = copy, *name;
	int place, set = 0;

	if (strscpy(copy, text, sizeof(copy)) < 0)
		return -EINVAL;
	while ((name = strsep(&rest, ","))) {
		place = sysfs_match_string(vtl_defences, name);
		if (place < 0)
			return place;
		set |= BIT(place);
	}
	return VTL_MODE_ONLY | set << 8;
}

static int vtl_mode_set(const char *text, const struct kernel_param *param)
{
	int mode = sysfs_match_string(vtl_modes, text);

	if (mode < 0)
		mode = vtl_list_parse(text);
	if (mode < 0) {
		pr_err("mshv_vtl_tdx: not loaded: mitigations=%.32s is none of auto, full, off, user, and no list of verw, rsb, ibpb-exit, bhb, ibpb\n",
		       text);
		return mode;
	}
	vtl_mode = mode;
	return 0;
}

static int vtl_mode_get(char *buffer, const struct kernel_param *param)
{
	const char *between = "";
	int length = 0, place;

	if (vtl_mode < VTL_MODE_ONLY)
		return sysfs_emit(buffer, "%s\n", vtl_modes[vtl_mode]);
	for (place = 0; place < ARRAY_SIZE(vtl_defences); place++) {
		if (!(vtl_mode & BIT(8 + place)))
			continue;
		length += sysfs_emit_at(buffer, length, "%s%s", between,
					vtl_defences[place]);
		between = ",";
	}
	return length + sysfs_emit_at(buffer, length, "\n");
}

static const struct kernel_param_ops vtl_mode_ops = {
	.set = vtl_mode_set,
	.get = vtl_mode_get,
};

module_param_cb(mitigations, &vtl_mode_ops, NULL, 0444);
MODULE_PARM_DESC(
	mitigations,
	"Speculation defences of a switch: auto (those that the CPU needs), full, off, user (auto, but only before userspace or another task runs), or a list of verw, rsb, ibpb-exit, bhb, ibpb");

u32 vtl_mitigation_mode(void)
{
	return vtl_mode;
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
	/* Where SPEC_CTRL can stop it, it does. */
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
