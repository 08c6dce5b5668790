// SPDX-License-Identifier: GPL-2.0
/*
 * What Rust can't reach of rate limits and of the audit subsystem; event.rs
 * says what is logged.
 *
 * Stays C: rate limits are initialised by macros, audit functions are variadic.
 */
#define pr_fmt(fmt) "mshv_vtl_tdx: audit: " fmt

#include <linux/audit.h>
#include <linux/printk.h>
#include <linux/ratelimit.h>
#include <linux/workqueue.h>
#include <linux/mshv_vtl_tdx.h>

#include "helpers.h"

/* Limit for each kind of event. */
#define VTL_EVENT_INTERVAL (5 * HZ)
#define VTL_EVENT_BURST 20

#define VTL_EVENT_LIMIT                                                \
	RATELIMIT_STATE_INIT_FLAGS("mshv_vtl_tdx", VTL_EVENT_INTERVAL, \
				   VTL_EVENT_BURST, RATELIMIT_MSG_ON_RELEASE)

static struct ratelimit_state vtl_event_limits[] = {
	[0 ... VTL_EVENT_KINDS - 1] = VTL_EVENT_LIMIT,
};

/* What the limit has suppressed since the last text of the same kind. */
static atomic_t vtl_event_lost[VTL_EVENT_KINDS];

/* Counts an event of @kind; false if there have been too many of late. */
bool vtl_event_admit(u32 kind)
{
	if (kind >= ARRAY_SIZE(vtl_event_limits))
		return false;
	if (__ratelimit(&vtl_event_limits[kind]))
		return true;
	atomic_inc(&vtl_event_lost[kind]);
	return false;
}

/* Logs a text of a @kind that was admitted. */
void vtl_event_log(u32 kind, const char *text)
{
	unsigned int lost = atomic_xchg(&vtl_event_lost[kind], 0);
	struct audit_buffer *buffer;
	char more[24] = "";

	if (lost)
		scnprintf(more, sizeof(more), " lost=%u", lost);
	if (!audit_enabled) {
		pr_info("%s%s pid=%d\n", text, more, task_tgid_nr(current));
		return;
	}
	buffer = audit_log_start(audit_context(), GFP_KERNEL,
				 AUDIT_KERNEL_OTHER);
	audit_log_format(buffer, "module=mshv_vtl_tdx %s%s", text, more);
	audit_log_task_info(buffer);
	audit_log_end(buffer);
}

/* The storm that is to be logged; further ones are only counted until then. */
static atomic_t vtl_storm_taken = ATOMIC_INIT(0);
static struct {
	u32 cpu, kind, thread;
	u64 ticks;
} vtl_storm;

static void vtl_storm_log(struct work_struct *unused)
{
	char text[128];

	scnprintf(text, sizeof(text),
		  "op=exit_storm vp=%u exit=%u thread=%u exits=%u ticks=%llu",
		  vtl_storm.cpu, vtl_storm.kind, vtl_storm.thread,
		  MSHV_VTL_STORM_EXITS, vtl_storm.ticks);
	atomic_set_release(&vtl_storm_taken, 0);
	vtl_event_log(VTL_EVENT_EXIT_STORM, text);
}

static DECLARE_WORK(vtl_storm_work, vtl_storm_log);

/* Called with interrupts disabled, where nothing can be logged. */
void vtl_event_storm(u32 cpu, u32 kind, u32 thread, u64 ticks)
{
	if (!vtl_event_admit(VTL_EVENT_EXIT_STORM) ||
	    atomic_cmpxchg_acquire(&vtl_storm_taken, 0, 1))
		return;
	vtl_storm.cpu = cpu;
	vtl_storm.kind = kind;
	vtl_storm.thread = thread;
	vtl_storm.ticks = ticks;
	schedule_work(&vtl_storm_work);
}

/* Called when no VP can run any more. */
void vtl_event_flush(void)
{
	flush_work(&vtl_storm_work);
}
