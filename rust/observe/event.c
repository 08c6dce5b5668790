// SPDX-License-Identifier: GPL-2.0
/*
 * What Rust can't reach of rate limits and of the audit subsystem; event.rs
 * says what is logged.
 */
#define pr_fmt(fmt) "mshv_vtl_tdx: audit: " fmt

#include <linux/audit.h>
#include <linux/printk.h>
#include <linux/ratelimit.h>

#include "glue/helpers.h"

/* Per kind of event, as many as anybody reads. */
#define VTL_EVENT_INTERVAL (5 * HZ)
#define VTL_EVENT_BURST 20

#define VTL_EVENT_LIMIT                                                \
	RATELIMIT_STATE_INIT_FLAGS("mshv_vtl_tdx", VTL_EVENT_INTERVAL, \
				   VTL_EVENT_BURST, RATELIMIT_MSG_ON_RELEASE)

static struct ratelimit_state vtl_event_limits[] = {
	VTL_EVENT_LIMIT, VTL_EVENT_LIMIT, VTL_EVENT_LIMIT,
	VTL_EVENT_LIMIT, VTL_EVENT_LIMIT,
};

bool vtl_event_allowed(u32 kind)
{
	return kind < ARRAY_SIZE(vtl_event_limits) &&
	       __ratelimit(&vtl_event_limits[kind]);
}

void vtl_event_log(const char *text)
{
	struct audit_buffer *buffer;

	if (!audit_enabled) {
		pr_info("%s pid=%d\n", text, task_tgid_nr(current));
		return;
	}
	buffer = audit_log_start(audit_context(), GFP_KERNEL,
				 AUDIT_KERNEL_OTHER);
	audit_log_format(buffer, "module=mshv_vtl_tdx %s", text);
	audit_log_task_info(buffer);
	audit_log_end(buffer);
}
