// SPDX-License-Identifier: GPL-2.0
/*
 * Files of userspace: an entry in the wait queue of one (poll_file.rs), the descriptors
 * of one (descriptor.rs), and O_NONBLOCK (sint.rs).
 *
 * Stays C: an entry in the wait queue of any file, descriptors and flags are inline
 * functions and macros.
 */
#include <linux/fdtable.h>
#include <linux/file.h>
#include <linux/poll.h>
#include <linux/rcupdate.h>
#include <linux/slab.h>

#include "helpers.h"

/*
 * One registration. @head becomes NULL when the wait queue goes away before the
 * file (POLLFREE: signalfd, binder); its memory is then kept by RCU only.
 */
struct vtl_poll {
	struct wait_queue_entry entry;
	struct wait_queue_head *head;
	struct file *file;
	void (*wake)(void *argument);
	void *argument;
};

/* Lives only during vtl_poll_new(). */
struct vtl_poll_table {
	poll_table table;
	struct vtl_poll *poll;
	bool has_several;
};

static int vtl_poll_event(struct wait_queue_entry *entry, unsigned int mode,
			  int sync, void *key)
{
	struct vtl_poll *poll = container_of(entry, struct vtl_poll, entry);
	__poll_t events = key_to_poll(key);

	if (!events || events & (EPOLLIN | EPOLLHUP | EPOLLERR | POLLFREE))
		poll->wake(poll->argument);
	if (events & POLLFREE) {
		list_del_init(&entry->entry);
		/*
		 * The last access to @poll: from here on vtl_poll_free() may
		 * free it. Pairs with the acquire there.
		 */
		smp_store_release(&poll->head, NULL);
	}
	return 0;
}

static void vtl_poll_queue(struct file *file, struct wait_queue_head *head,
			   poll_table *table)
{
	struct vtl_poll_table *this =
		container_of(table, struct vtl_poll_table, table);
	struct vtl_poll *poll = this->poll;

	if (poll->head) {
		this->has_several = true;
		return;
	}
	poll->head = head;
	add_wait_queue(head, &poll->entry);
}

static void vtl_poll_remove(struct vtl_poll *poll)
{
	struct wait_queue_head *head;

	/* RCU keeps the memory of a queue that goes away while we lock it. */
	rcu_read_lock();
	/* Pairs with the release in vtl_poll_event(). */
	head = smp_load_acquire(&poll->head);
	if (head)
		remove_wait_queue(head, &poll->entry);
	rcu_read_unlock();
}

/*
 * Calls @wake whenever @file becomes readable, and immediately if it is readable
 * already; in any context, under the lock of the wait queue. Returns EINVAL for
 * files that can't be polled, or have more than one wait queue.
 */
struct vtl_poll *vtl_poll_new(struct file *file, void (*wake)(void *argument),
			      void *argument)
{
	struct vtl_poll_table this = {};
	struct vtl_poll *poll;
	__poll_t ready;

	if (!file_can_poll(file))
		return ERR_PTR(-EINVAL);
	poll = kzalloc_obj(*poll, GFP_KERNEL_ACCOUNT);
	if (!poll)
		return ERR_PTR(-ENOMEM);
	poll->wake = wake;
	poll->argument = argument;
	poll->file = get_file(file);
	init_waitqueue_func_entry(&poll->entry, vtl_poll_event);
	INIT_LIST_HEAD(&poll->entry.entry);
	this.poll = poll;
	init_poll_funcptr(&this.table, vtl_poll_queue);
	ready = vfs_poll(file, &this.table);
	if (!poll->head || this.has_several) {
		vtl_poll_free(poll);
		return ERR_PTR(-EINVAL);
	}
	if (ready & (EPOLLIN | EPOLLHUP | EPOLLERR))
		wake(argument);
	return poll;
}

/* On return @wake is not running, and will not be called any more. */
void vtl_poll_free(struct vtl_poll *poll)
{
	vtl_poll_remove(poll);
	fput(poll->file);
	kfree(poll);
}

/* The current process's table of descriptors, for comparing. */
void *vtl_descriptors(void)
{
	return current->files;
}

static int vtl_is_file(const void *wanted, struct file *file, unsigned int fd)
{
	return file == wanted;
}

/* Returns true if the current process has a descriptor of @file. */
bool vtl_has_descriptor(const struct file *file)
{
	return iterate_fd(current->files, 0, vtl_is_file, file);
}

/*
 * Called when a descriptor of @file was removed from @table. Returns true if it was
 * the last one there. A table of another process than the current one is about to be
 * freed, and all descriptors in it are closed.
 */
bool vtl_was_last_descriptor(const struct file *file, const void *table)
{
	return table != current->files || !vtl_has_descriptor(file);
}

bool vtl_is_nonblocking(struct kiocb *kiocb)
{
	return kiocb->ki_filp->f_flags & O_NONBLOCK ||
	       kiocb->ki_flags & IOCB_NOWAIT;
}
