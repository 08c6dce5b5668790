// SPDX-License-Identifier: GPL-2.0
/*
 * Counts the places in the module that the fuzzer has reached, if the kernel
 * has KCOV: the figure that tells useful calls from mere activity.
 */
#include <fcntl.h>
#include <linux/kcov.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fuzz.h"

#define PLACES 65536 /* of one act */
#define SEEN_BITS 18

static atomic_uchar seen[1 << SEEN_BITS];

/* A kernel without it is as good; nothing is counted then. */
void fuzz_coverage_open(struct fuzz_thread *thread)
{
	int file = open("/sys/kernel/debug/kcov", O_RDWR | O_CLOEXEC);
	void *at;

	thread->places = NULL;
	if (file < 0 || ioctl(file, KCOV_INIT_TRACE, PLACES))
		return;
	at = mmap(NULL, PLACES * sizeof(uint64_t), PROT_READ | PROT_WRITE,
		  MAP_SHARED, file, 0);
	if (at != MAP_FAILED && !ioctl(file, KCOV_ENABLE, KCOV_TRACE_PC))
		thread->places = at;
}

/* The first word is the number of entries. A child of fork() is not traced. */
void fuzz_coverage_take(struct fuzz_thread *thread)
{
	uint64_t i, count;

	if (!thread->places || thread->parent)
		return;
	count = __atomic_load_n(&thread->places[0], __ATOMIC_RELAXED);
	for (i = 1; i <= count && i < PLACES; i++) {
		uint64_t hash = thread->places[i] * 0x9e3779b97f4a7c15ULL;

		atomic_store_explicit(&seen[hash >> (64 - SEEN_BITS)], 1,
				      memory_order_relaxed);
	}
	__atomic_store_n(&thread->places[0], 0, __ATOMIC_RELAXED);
}

unsigned long fuzz_coverage(void)
{
	unsigned long i, count = 0;

	for (i = 0; i < sizeof(seen); i++)
		count += seen[i];
	return count;
}
