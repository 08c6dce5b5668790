// SPDX-License-Identifier: GPL-2.0
/*
 * What a thread of the fuzzer does next, and how often each.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fuzz.h"
#include "vtl_util.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static void open_one(struct fuzz_thread *thread)
{
	static const char *const nodes[] = { DEV_MSHV,	      DEV_MSHV_VTL,
					     DEV_MSHV_VTL,    DEV_MSHV_VTL_LOW,
					     DEV_MSHV_HVCALL, DEV_MSHV_SINT };
	int file;

	file = vtl_open(nodes[fuzz_below(thread, COUNT(nodes))]);
	if (file < 0)
		return;
	/* Nothing would wake a reader that waits for a message. */
	fcntl(file, F_SETFL, O_NONBLOCK);
	fuzz_put_file(thread, file);
}

/* A message from the host, where there is one. */
static void read_one(struct fuzz_thread *thread)
{
	struct pollfd poll_one = { .fd = fuzz_file(thread), .events = POLLIN };
	void *to = fuzz_once_in(thread, 8) ? thread->read_only :
					     thread->operand;

	poll(&poll_one, 1, 0);
	if (read(poll_one.fd, to, 255 + fuzz_below(thread, 3)) < 0)
		thread->refused++;
}

static void command_one(struct fuzz_thread *thread)
{
	unsigned long command;
	void *argument;
	int result;

	fuzz_operand(thread, &command, &argument);
	result = ioctl(fuzz_file(thread), command, argument);
	if (result < 0)
		thread->refused++;
	else if (command == MSHV_CREATE_VTL)
		fuzz_put_file(thread, result);
}

static void map_one(struct fuzz_thread *thread)
{
	fuzz_map(thread, fuzz_file(thread));
}

static void move(struct fuzz_thread *thread)
{
	vtl_pin(fuzz_below(thread, thread->shared->cpus));
}

static void fork_one(struct fuzz_thread *thread);

static const struct {
	unsigned int weight;
	void (*act)(struct fuzz_thread *thread);
} acts[] = {
	{ 46, command_one },
	{ 2, read_one },
	{ 8, map_one },
	{ 4, fuzz_unmap },
	{ 10, fuzz_touch },
	{ 8, fuzz_access },
	{ 12, fuzz_change_run_page },
	{ 5, open_one },
	{ 4, move },
	{ 1, fork_one },
};

void fuzz_act(struct fuzz_thread *thread)
{
	unsigned int at = fuzz_below(thread, 100), i;

	for (i = 0; at >= acts[i].weight; i++)
		at -= acts[i].weight;
	fuzz_faults_arm(thread);
	acts[i].act(thread);
	fuzz_faults_disarm(thread);
	fuzz_coverage_take(thread);
	thread->calls++;
}

/*
 * A child uses what it inherited, and what it opens itself, and exits. Made by
 * the system call itself, because the C library's fork() blocks all signals
 * meanwhile, and leaves them blocked if an access of it is made to fail.
 */
static void fork_one(struct fuzz_thread *thread)
{
	int left = 12;
	pid_t child;

	if (thread->parent)
		return;
	child = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
	if (!child) {
		alarm(3);
		thread->parent = getppid();
		thread->fail_nth = -1;
		while (left--)
			fuzz_act(thread);
		_exit(0);
	}
	if (child < 0)
		return;
	thread->children++;
	while (waitpid(child, NULL, 0) < 0 && errno == EINTR)
		;
}
