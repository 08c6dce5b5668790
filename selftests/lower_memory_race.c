// SPDX-License-Identifier: GPL-2.0
/*
 * Registration and its end, mappings, partial changes to them and what the kernel
 * itself does with them (lib/kernel_access.c), all at once on the same memory. Each
 * access ends in one of its two ways, and nothing is left afterwards.
 */
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>

#include "kernel_access.h"
#include "vtl_harness.h"
#include "vtl_util.h"

#define SIZE (2 * VTL_LARGE_SIZE)
#define PAGES (SIZE / VTL_PAGE_SIZE)
#define ROUNDS 150

static _Thread_local sigjmp_buf after_fault;

static void on_fault(int signal)
{
	siglongjmp(after_fault, signal);
}

/* Writes back the byte that it reads, if there is a page. */
static void touch(volatile unsigned char *at)
{
	if (!sigsetjmp(after_fault, 1))
		*at = *at;
}

/* What the threads share. */
static struct {
	uint64_t gpa;
	unsigned char *memory; /* for the threads that change one mapping */
	atomic_bool is_over;
	atomic_uint unexpected;
	atomic_uint done;
} all;

static unsigned int next(unsigned int *seed)
{
	*seed = *seed * 1103515245 + 12345;
	return *seed >> 8;
}

/* Any but those that take long or stop other threads. */
static void access_one(unsigned char *page, unsigned int *seed)
{
	_Alignas(VTL_PAGE_SIZE) unsigned char copy[VTL_PAGE_SIZE];
	const struct kernel_access *access =
		&kernel_accesses[next(seed) % kernel_access_count];
	int result;

	if (access->is_slow)
		return;
	memset(copy, 0x5a, sizeof(copy));
	result = access->act(page, copy);
	/*
	 * Or the page is protected or unmapped meanwhile, which gives an
	 * error.
	 */
	if (result != access->of_frames && result != access->of_pages &&
	    result != -EFAULT && result != -ENOMEM && result != -EIO &&
	    result != -EAGAIN)
		atomic_fetch_add(&all.unexpected, 1);
	atomic_fetch_add(&all.done, 1);
}

/* While no other file is open, its close undoes the registration. */
static void *register_often(void *argument)
{
	unsigned int *failures = argument;

	while (!atomic_load(&all.is_over)) {
		int vtl = vtl_create();

		if (vtl < 0 || vtl_register(vtl, all.gpa, SIZE))
			++*failures;
		close(vtl);
		sched_yield();
	}
	return NULL;
}

static void *map_and_access(void *argument)
{
	unsigned int seed = *(unsigned int *)argument, round;

	for (round = 0; round < ROUNDS; round++) {
		bool is_large = next(&seed) % 2;
		unsigned char *memory =
			is_large ? vtl_map_low_large(all.gpa, SIZE) :
				   vtl_map_low(all.gpa, SIZE);
		unsigned int left = 4;

		if (memory == MAP_FAILED) {
			atomic_fetch_add(&all.unexpected, 1);
			continue;
		}
		while (left--) {
			unsigned char *page =
				memory + next(&seed) % PAGES * VTL_PAGE_SIZE;

			touch(page);
			access_one(page, &seed);
		}
		/* In two parts, the first of which is not whole entries. */
		munmap(memory, VTL_LARGE_SIZE + VTL_PAGE_SIZE);
		munmap(memory + VTL_LARGE_SIZE + VTL_PAGE_SIZE,
		       SIZE - VTL_LARGE_SIZE - VTL_PAGE_SIZE);
	}
	return NULL;
}

FIXTURE(race)
{
	int vtl;
};

FIXTURE_SETUP(race)
{
	struct sigaction action = { .sa_handler = on_fault,
				    .sa_flags = SA_NODEFER };

	sigaction(SIGBUS, &action, NULL);
	sigaction(SIGSEGV, &action, NULL);
	if (!vtl_middle_memory(&all.gpa))
		SKIP(return,
			   "no vtl0_mem= of 32 MiB or more on the kernel command line");
	self->vtl = vtl_create();
	ASSERT_LE(0, self->vtl);
	ASSERT_EQ(0, vtl_accept(self->vtl, all.gpa, SIZE));
}

FIXTURE_TEARDOWN(race)
{
	/* Nothing has it registered any more, unless a page was leaked. */
	EXPECT_FALSE(vtl_stays_registered(all.gpa));
	EXPECT_EQ(NULL, vtl_kernel_complaint());
}

TEST_F(race, mappings_and_accesses_against_registration)
{
	unsigned int seeds[] = { 1, 2, 3 }, failures = 0;
	pthread_t registrar, mappers[ARRAY_SIZE(seeds)];
	size_t i;

	/* Only the threads keep the memory registered. */
	close(self->vtl);
	ASSERT_EQ(0,
		  vtl_thread_anywhere(&registrar, register_often, &failures));
	for (i = 0; i < ARRAY_SIZE(seeds); i++)
		ASSERT_EQ(0, vtl_thread_anywhere(&mappers[i], map_and_access,
						 &seeds[i]));
	for (i = 0; i < ARRAY_SIZE(seeds); i++)
		pthread_join(mappers[i], NULL);
	atomic_store(&all.is_over, true);
	pthread_join(registrar, NULL);
	EXPECT_EQ(0, failures);
	EXPECT_EQ(0, all.unexpected);
	EXPECT_LT(ROUNDS, all.done);
}

/* Maps again, in place of the existing mapping. */
static void map_again(int fd, unsigned char *memory, size_t offset, size_t size)
{
	mmap(memory + offset, size, PROT_READ | PROT_WRITE,
	     MAP_SHARED | MAP_FIXED, fd, (off_t)(all.gpa + offset));
}

/*
 * Moves a part in from another address, with its page table entries. Leaves no
 * hole.
 */
static void move_part_in(unsigned char *memory, size_t offset, size_t size)
{
	unsigned char *place = vtl_map_low_large(all.gpa + offset, size);

	if (place == MAP_FAILED)
		return;
	touch(place);
	if (mremap(place, size, size, MREMAP_MAYMOVE | MREMAP_FIXED,
		   memory + offset) == MAP_FAILED) {
		munmap(place, size);
		atomic_fetch_add(&all.unexpected, 1);
	}
}

/* One of the ways in which a part of a mapping can change. */
static void change_one(int fd, unsigned char *memory, unsigned int *seed)
{
	size_t offset = next(seed) % PAGES * VTL_PAGE_SIZE;
	unsigned char *page = memory + offset;

	switch (next(seed) % 8) {
	case 0:
		mprotect(page, VTL_PAGE_SIZE, PROT_READ);
		break;
	case 1:
		mprotect(memory, SIZE, PROT_READ | PROT_WRITE);
		break;
	case 2:
		madvise(page, VTL_PAGE_SIZE, MADV_DONTNEED);
		break;
	case 3:
		madvise(memory, SIZE, MADV_DONTNEED);
		break;
	case 4:
		move_part_in(memory, offset, VTL_PAGE_SIZE);
		break;
	case 5:
		move_part_in(memory, VTL_LARGE_SIZE, VTL_LARGE_SIZE);
		break;
	case 6:
		map_again(fd, memory, offset, VTL_PAGE_SIZE);
		break;
	default:
		/* All of it, in entries of 2 MiB. */
		map_again(fd, memory, 0, SIZE);
		break;
	}
}

/* Changes pages of the one mapping that all threads access. */
static void *change_often(void *argument)
{
	unsigned int seed = *(unsigned int *)argument, round;
	int fd = vtl_open(DEV_MSHV_VTL_LOW);

	for (round = 0; round < 4 * ROUNDS; round++)
		change_one(fd, all.memory, &seed);
	close(fd);
	return NULL;
}

/*
 * Changes a mapping of its own; between two of them there is none for a
 * moment.
 */
static void *map_and_change(void *argument)
{
	unsigned int seed = *(unsigned int *)argument, round;

	for (round = 0; round < ROUNDS; round++) {
		int fd = vtl_open(DEV_MSHV_VTL_LOW);
		unsigned char *memory = vtl_map_low_large(all.gpa, SIZE);
		unsigned int left = 4;

		if (memory == MAP_FAILED) {
			atomic_fetch_add(&all.unexpected, 1);
			close(fd);
			continue;
		}
		while (left--) {
			touch(memory + next(&seed) % PAGES * VTL_PAGE_SIZE);
			change_one(fd, memory, &seed);
			touch(memory + next(&seed) % PAGES * VTL_PAGE_SIZE);
			atomic_fetch_add(&all.done, 1);
		}
		munmap(memory, SIZE);
		close(fd);
		sched_yield();
	}
	return NULL;
}

/* Two register the same memory; the pages come and go with the last file. */
TEST_F(race, partial_changes_against_registration)
{
	unsigned int seeds[] = { 1, 2 }, failures[2] = { 0 };
	pthread_t registrars[2], changers[ARRAY_SIZE(seeds)];
	size_t i;

	close(self->vtl);
	for (i = 0; i < 2; i++)
		ASSERT_EQ(0, vtl_thread_anywhere(&registrars[i], register_often,
						 &failures[i]));
	for (i = 0; i < ARRAY_SIZE(seeds); i++)
		ASSERT_EQ(0, vtl_thread_anywhere(&changers[i], map_and_change,
						 &seeds[i]));
	for (i = 0; i < ARRAY_SIZE(seeds); i++)
		pthread_join(changers[i], NULL);
	atomic_store(&all.is_over, true);
	for (i = 0; i < 2; i++) {
		pthread_join(registrars[i], NULL);
		EXPECT_EQ(0, failures[i]);
	}
	EXPECT_EQ(0, all.unexpected);
	EXPECT_LT(ROUNDS, all.done);
}

static void *access_often(void *argument)
{
	unsigned int seed = *(unsigned int *)argument;

	while (!atomic_load(&all.is_over)) {
		unsigned char *page =
			all.memory + next(&seed) % PAGES * VTL_PAGE_SIZE;

		touch(page);
		access_one(page, &seed);
	}
	return NULL;
}

static void change_against_access(struct __test_metadata *_metadata)
{
	unsigned int seeds[] = { 1, 2, 3 };
	pthread_t changer, accessors[2];

	all.memory = vtl_map_low_large(all.gpa, SIZE);
	ASSERT_NE(MAP_FAILED, (void *)all.memory);
	ASSERT_EQ(0, vtl_thread_anywhere(&changer, change_often, &seeds[0]));
	ASSERT_EQ(0,
		  vtl_thread_anywhere(&accessors[0], access_often, &seeds[1]));
	ASSERT_EQ(0,
		  vtl_thread_anywhere(&accessors[1], access_often, &seeds[2]));
	pthread_join(changer, NULL);
	atomic_store(&all.is_over, true);
	pthread_join(accessors[0], NULL);
	pthread_join(accessors[1], NULL);
	munmap(all.memory, SIZE);
	EXPECT_EQ(0, all.unexpected);
	EXPECT_LT(0, all.done);
}

TEST_F(race, partial_changes_against_accesses_to_pages)
{
	ASSERT_EQ(0, vtl_register(self->vtl, all.gpa, SIZE));
	change_against_access(_metadata);
	close(self->vtl);
}

TEST_F(race, partial_changes_against_accesses_to_frames)
{
	close(self->vtl);
	change_against_access(_metadata);
}

TEST_HARNESS_MAIN
