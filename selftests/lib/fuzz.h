/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Parts of fuzz_ioctl.c: random numbers that look like operands, calls made of
 * them (fuzz_calls.c) and of memory (fuzz_memory.c), in what order
 * (fuzz_acts.c), with what failing (fuzz_faults.c) and how far they reach
 * (fuzz_coverage.c). Nothing here allocates, so that all of it may be used in a
 * child of fork() of a process with threads.
 */
#ifndef FUZZ_H
#define FUZZ_H

#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define FUZZ_FILES 16
#define FUZZ_AREAS 8
#define FUZZ_OPERAND 8192
/* Pages of VTL0 that the host, and the TDX module, get now and then. */
#define FUZZ_SHOWN_OFFSET (2UL << 20)
#define FUZZ_SHOWN_PAGES 64

/* Files that all threads use, and close under one another's feet. */
struct fuzz_shared {
	_Atomic int files[FUZZ_FILES];
	int event;
	uint64_t base, size; /* VTL0's memory */
	uint64_t system_ram;
	int cpus;
	atomic_bool stop;
	atomic_int live; /* threads that have not ended */
};

struct fuzz_area {
	unsigned char *at;
	size_t size;
};

struct fuzz_thread {
	struct fuzz_shared *shared;
	uint64_t random;
	struct fuzz_area areas[FUZZ_AREAS];
	pid_t parent; /* in a child of fork(): its parent */
	sigjmp_buf away; /* where to continue after a SIGBUS */
	volatile sig_atomic_t touching;
	atomic_ulong calls;
	uint64_t refused, buses, children;
	int fail_nth; /* of this thread, or -1 */
	bool is_armed;
	unsigned int excused; /* faults that were no access of the thread's */
	uint64_t faults;
	uint64_t *places; /* the kernel's list of them, or NULL */
	unsigned char *operand; /* FUZZ_OPERAND bytes, then nothing */
	unsigned char *read_only;
};

uint64_t fuzz_random(struct fuzz_thread *thread);
uint64_t fuzz_below(struct fuzz_thread *thread, uint64_t limit);
bool fuzz_once_in(struct fuzz_thread *thread, uint64_t times);
uint64_t fuzz_value(struct fuzz_thread *thread);
uint64_t fuzz_gpa(struct fuzz_thread *thread);
uint64_t fuzz_shown(struct fuzz_thread *thread);

int fuzz_file(struct fuzz_thread *thread);
void fuzz_put_file(struct fuzz_thread *thread, int file);
void fuzz_operand(struct fuzz_thread *thread, unsigned long *command,
		  void **argument);
void fuzz_map(struct fuzz_thread *thread, int file);
void fuzz_unmap(struct fuzz_thread *thread);
void fuzz_touch(struct fuzz_thread *thread);
void fuzz_access(struct fuzz_thread *thread);
void fuzz_change_run_page(struct fuzz_thread *thread);

bool fuzz_faults_open(struct fuzz_thread *thread);
void fuzz_faults_arm(struct fuzz_thread *thread);
void fuzz_faults_disarm(struct fuzz_thread *thread);
void fuzz_coverage_open(struct fuzz_thread *thread);
void fuzz_coverage_take(struct fuzz_thread *thread);
unsigned long fuzz_coverage(void);

void fuzz_act(struct fuzz_thread *thread);

#endif /* FUZZ_H */
