// SPDX-License-Identifier: GPL-2.0
/*
 * Makes the kernel fail a thread's n-th allocation or copy from now on, if it
 * can (a debug kernel, prepared by fuzz_faults.sh): this takes error paths that
 * are otherwise never taken.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "fuzz.h"

#define NTH_MAX 24

/* Returns true if the thread is ready; without FUZZ_FAULTS= it always is. */
bool fuzz_faults_open(struct fuzz_thread *thread)
{
	thread->fail_nth = -1;
	if (!getenv("FUZZ_FAULTS"))
		return true;
	thread->fail_nth =
		open("/proc/thread-self/fail-nth", O_RDWR | O_CLOEXEC);
	return thread->fail_nth >= 0;
}

static void set(const struct fuzz_thread *thread, uint64_t nth)
{
	char text[4] = { '0' + nth / 10, '0' + nth % 10, '\n', 0 };

	/* The call that fails may be this one; then it is the last that does. */
	while (pwrite(thread->fail_nth, text, 3, 0) < 0 && errno == EFAULT)
		;
}

/* In front of every third act. */
void fuzz_faults_arm(struct fuzz_thread *thread)
{
	if (thread->fail_nth < 0 || !fuzz_once_in(thread, 3))
		return;
	set(thread, 1 + fuzz_below(thread, NTH_MAX));
	thread->is_armed = true;
}

/* Afterwards: a zero means that something has failed. */
void fuzz_faults_disarm(struct fuzz_thread *thread)
{
	char text[16] = "";

	/* The file is the parent's. */
	if (!thread->is_armed || thread->parent)
		return;
	thread->is_armed = false;
	if (pread(thread->fail_nth, text, sizeof(text) - 1, 0) > 0 &&
	    atoi(text) == 0)
		thread->faults++;
	set(thread, 0);
}
