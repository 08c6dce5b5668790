// SPDX-License-Identifier: GPL-2.0
/*
 * What the kernel calls before a reboot, a power-off and a kexec. A notifier runs
 * first of all that is there for this: every CPU is still online, takes interrupts
 * and executes TDCALLs for itself, which is what each virtual processor needs. Tasks
 * still run, too, and may try to enter again.
 *
 * Stays C: a notifier has no abstraction in the kernel crate.
 */
#include <linux/notifier.h>
#include <linux/reboot.h>

#include "helpers.h"

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

/* Has @begins called in a task that may sleep. */
void vtl_shutdown_register(void (*begins)(void))
{
	shutdown_begins = begins;
	register_reboot_notifier(&shutdown_block);
}

/* It is not called, and is not running, on return. */
void vtl_shutdown_unregister(void)
{
	unregister_reboot_notifier(&shutdown_block);
}
