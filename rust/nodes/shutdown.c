// SPDX-License-Identifier: GPL-2.0
/*
 * The callback before a reboot, a power-off or a kexec. Of all such hooks
 * notifiers run first: every CPU is still online, handles interrupts and
 * executes TDCALLs, which each virtual processor needs. Tasks still run, too,
 * and may try to enter again.
 *
 * Stays C: a notifier has no abstraction in the kernel crate.
 */
#include <linux/notifier.h>
#include <linux/reboot.h>

#include "helpers.h"
#include "observe/helpers.h"

static void (*shutdown_begins)(void);

static int shutdown_notify(struct notifier_block *block, unsigned long event,
			   void *command)
{
	shutdown_begins();
	return NOTIFY_DONE;
}

static struct notifier_block shutdown_block = {
	.notifier_call = shutdown_notify,
};

/*
 * Registers @begins, which is called in a task that may sleep, and @checkpoint, which
 * is called once vtl_attest_start() has said how often.
 */
void vtl_shutdown_register(void (*begins)(void), void (*checkpoint)(void))
{
	shutdown_begins = begins;
	vtl_attest_prepare(checkpoint);
	register_reboot_notifier(&shutdown_block);
}

/* On return the function is not running and is not called any more. */
void vtl_shutdown_unregister(void)
{
	unregister_reboot_notifier(&shutdown_block);
}
