// SPDX-License-Identifier: GPL-2.0
/*
 * What Rust can't reach of parameters, work and facts; attest.rs says what for.
 *
 * Stays C: the kernel crate has parameters that are numbers only, and no work that can
 * be cancelled.
 */
#include <linux/cpu.h>
#include <linux/cred.h>
#include <linux/module.h>
#include <linux/string.h>
#include <linux/timekeeping.h>
#include <linux/uidgid.h>
#include <linux/utsname.h>
#include <linux/workqueue.h>

#include "helpers.h"

/* pure::attest::Mode has the same numbers. */
static const char *const vtl_attest_modes[] = { "off", "try", "require" };
static int vtl_attest_chosen;

static int vtl_attest_set(const char *text, const struct kernel_param *param)
{
	int mode = sysfs_match_string(vtl_attest_modes, text);

	if (mode < 0)
		return mode;
	vtl_attest_chosen = mode;
	return 0;
}

static int vtl_attest_get(char *text, const struct kernel_param *param)
{
	return sysfs_emit(text, "%s\n", vtl_attest_modes[vtl_attest_chosen]);
}

static const struct kernel_param_ops vtl_attest_ops = {
	.set = vtl_attest_set,
	.get = vtl_attest_get,
};

module_param_cb(attest, &vtl_attest_ops, NULL, 0444);
__MODULE_PARM_TYPE(attest, "string");
MODULE_PARM_DESC(
	attest,
	"Attestation of the audit: off (default), try, or require: no lower VTL runs without it");

u32 vtl_attest_mode(void)
{
	return vtl_attest_chosen;
}

void vtl_attest_facts(struct vtl_attest_facts *facts)
{
	memset(facts, 0, sizeof(*facts));
#ifdef CONFIG_STACKTRACE_BUILD_ID
	memcpy(facts->build_id, THIS_MODULE->build_id, sizeof(facts->build_id));
#endif
	strscpy(facts->release, init_utsname()->release,
		sizeof(facts->release));
}

static void (*vtl_attest_checkpoint)(void);
static unsigned long vtl_attest_interval;

static void vtl_attest_tick(struct work_struct *unused);
static DECLARE_DELAYED_WORK(vtl_attest_work, vtl_attest_tick);

static void vtl_attest_tick(struct work_struct *unused)
{
	vtl_attest_checkpoint();
	queue_delayed_work(system_dfl_long_wq, &vtl_attest_work,
			   vtl_attest_interval);
}

/* Checkpoints are made by @checkpoint, in a task that may sleep. */
void vtl_attest_prepare(void (*checkpoint)(void))
{
	vtl_attest_checkpoint = checkpoint;
}

/* Has checkpoints made periodically. */
void vtl_attest_start(u32 interval_s)
{
	vtl_attest_interval = secs_to_jiffies(interval_s);
	queue_delayed_work(system_dfl_long_wq, &vtl_attest_work,
			   vtl_attest_interval);
}

/* On return none is being made, and none will be. */
void vtl_attest_stop(void)
{
	cancel_delayed_work_sync(&vtl_attest_work);
}

u64 vtl_boot_ns(void)
{
	return ktime_get_boottime_ns();
}

/* As root of the machine numbers the user, whatever the process calls it. */
u32 vtl_user(void)
{
	return from_kuid(&init_user_ns, current_uid());
}

bool vtl_is_online(u32 cpu)
{
	return cpu < nr_cpu_ids && cpu_online(cpu);
}
