/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Interrupts of this kernel that are redirected to the lower VTLs (redirect.c), the
 * notification before a shutdown (shutdown.c), and poll entries, descriptors and
 * flags of files (poll.c).
 */
#ifndef _MSHV_VTL_TDX_NODES_HELPERS_H
#define _MSHV_VTL_TDX_NODES_HELPERS_H

#include <linux/interrupt.h>
#include <linux/types.h>

struct file;
struct kiocb;
struct vtl_poll;
struct vtl_redirect;

int vtl_redirect_init(void);
void vtl_redirect_exit(void);
struct vtl_redirect *vtl_redirect_new(u32 cpu, irq_handler_t handler,
				      void *route);
u32 vtl_redirect_vector(const struct vtl_redirect *redirect);
void vtl_redirect_free(struct vtl_redirect *redirect);

void vtl_shutdown_register(void (*begins)(void), void (*checkpoint)(void));
void vtl_shutdown_unregister(void);

struct vtl_poll *vtl_poll_new(struct file *file, void (*wake)(void *argument),
			      void *argument);
void vtl_poll_free(struct vtl_poll *poll);

void *vtl_descriptors(void);
bool vtl_has_descriptor(const struct file *file);
bool vtl_was_last_descriptor(const struct file *file, const void *table);

bool vtl_is_nonblocking(struct kiocb *kiocb);

#endif
