// SPDX-License-Identifier: GPL-2.0
/*
 * Memory that is shared with the host: a mapping of it is of page frames, in
 * entries of any size. Hyper-V makes it shared.
 */
#include <setjmp.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "kernel_access.h"
#include "vtl_harness.h"
#include "vtl_util.h"

#define MODIFY_HOST_VISIBILITY 0xdb
#define READ_WRITE_FOR_HOST 3
#define REPS(count) ((uint64_t)(count) << 32)
#define PAGES_PER_CALL 256
#define PAGES_PER_PIECE 512

FIXTURE(shared)
{
	int vtl;
	uint64_t gpa;
};

/* Asks the host to change the visibility of a 2 MiB piece. */
static int show_host(uint64_t gpa, uint32_t visibility)
{
	static unsigned char list[32];
	struct mshv_vtl_hvcall_setup setup = {
		.bitmap_array_size = sizeof(list),
		.allow_bitmap_ptr = (uintptr_t)list,
	};
	struct {
		uint64_t partition;
		uint32_t word[2];
		uint64_t pages[PAGES_PER_CALL];
	} input = { .partition = ~0ULL, .word = { visibility } };
	struct mshv_vtl_hvcall call = {
		.control = MODIFY_HOST_VISIBILITY | REPS(PAGES_PER_CALL),
		.input_size = sizeof(input),
		.input_ptr = (uintptr_t)&input,
	};
	int fd = vtl_open(DEV_MSHV_HVCALL), i, result = 0;
	uint64_t page;

	list[MODIFY_HOST_VISIBILITY / 8] = 1 << MODIFY_HOST_VISIBILITY % 8;
	if (ioctl(fd, MSHV_HVCALL_SETUP, &setup))
		result = -errno;
	for (page = 0; !result && page < PAGES_PER_PIECE;
	     page += PAGES_PER_CALL) {
		for (i = 0; i < PAGES_PER_CALL; i++)
			input.pages[i] = gpa / VTL_PAGE_SIZE + page + i;
		if (ioctl(fd, MSHV_HVCALL, &call))
			result = -errno;
		else if (call.status != REPS(PAGES_PER_CALL))
			result = -EIO;
	}
	close(fd);
	return result;
}

FIXTURE_SETUP(shared)
{
	uint64_t base, size;

	if (!vtl_memory(&base, &size))
		SKIP(return, "no vtl0_mem= on the kernel command line");
	self->vtl = vtl_create();
	ASSERT_LE(0, self->vtl);
	/* A piece that no other test uses. */
	self->gpa = base + size - VTL_LARGE_SIZE;
	ASSERT_EQ(0, show_host(self->gpa, READ_WRITE_FOR_HOST));
}

FIXTURE_TEARDOWN(shared)
{
	/* The next test, and a module that is loaded again, may accept it. */
	EXPECT_EQ(0, show_host(self->gpa, 0));
	close(self->vtl);
}

static void accesses(struct __test_metadata *_metadata, unsigned char *memory)
{
	static _Alignas(VTL_PAGE_SIZE) unsigned char copy[VTL_PAGE_SIZE];
	unsigned char *page = memory + 0x91 * VTL_PAGE_SIZE;
	size_t i;

	for (i = 0; i < kernel_access_count; i++) {
		const struct kernel_access *access = &kernel_accesses[i];
		unsigned char byte = access->way == ACCESS_WRITES &&
						     !access->of_frames ?
					     0xa5 :
					     i;

		memset(page, i, VTL_PAGE_SIZE);
		memset(copy, 0xa5, VTL_PAGE_SIZE);
		EXPECT_EQ(access->of_frames, access->act(page, copy))
		{
			TH_LOG("%s", access->name);
		}
		EXPECT_EQ(byte, page[0]);
		EXPECT_EQ(byte, page[VTL_PAGE_SIZE - 1]);
		if (access->way == ACCESS_READS && !access->of_frames)
			EXPECT_EQ(0, memcmp(copy, page, VTL_PAGE_SIZE));
	}
	EXPECT_EQ(NULL, vtl_kernel_complaint());
}

TEST_F(shared, the_kernel_never_takes_it_for_pages)
{
	uint64_t gpa = MSHV_VTL_LOW_SHARED | self->gpa;
	unsigned char *memory;

	/* In entries of 4 KiB, then of 2 MiB. */
	memory = vtl_map_low(gpa + VTL_PAGE_SIZE,
			     VTL_LARGE_SIZE - VTL_PAGE_SIZE);
	ASSERT_NE(MAP_FAILED, (void *)memory);
	accesses(_metadata, memory);
	munmap(memory, VTL_LARGE_SIZE - VTL_PAGE_SIZE);
	memory = vtl_map_low_large(gpa, VTL_LARGE_SIZE);
	ASSERT_NE(MAP_FAILED, (void *)memory);
	accesses(_metadata, memory);
	munmap(memory, VTL_LARGE_SIZE);
	/* Nor by its private alias: the memory is shared with the host. */
	EXPECT_EQ(-EINVAL, vtl_register(self->vtl, self->gpa, VTL_LARGE_SIZE));
}

TEST_F(shared, it_stays_shared_when_one_page_changes)
{
	unsigned char *memory = vtl_map_low_large(
		MSHV_VTL_LOW_SHARED | self->gpa, VTL_LARGE_SIZE);
	unsigned char *other =
		vtl_map_low(MSHV_VTL_LOW_SHARED | self->gpa, VTL_LARGE_SIZE);
	size_t i;

	ASSERT_NE(MAP_FAILED, (void *)memory);
	ASSERT_NE(MAP_FAILED, (void *)other);
	for (i = 0; i < PAGES_PER_PIECE; i++)
		other[i * VTL_PAGE_SIZE] = i;
	ASSERT_EQ(0, mprotect(memory + 300 * VTL_PAGE_SIZE, VTL_PAGE_SIZE,
			      PROT_READ));
	ASSERT_EQ(0, munmap(memory + 400 * VTL_PAGE_SIZE, VTL_PAGE_SIZE));
	for (i = 0; i < PAGES_PER_PIECE; i++)
		if (i != 400)
			ASSERT_EQ((unsigned char)i, memory[i * VTL_PAGE_SIZE]);
	munmap(memory, VTL_LARGE_SIZE);
	munmap(other, VTL_LARGE_SIZE);
}

TEST_F(shared, it_is_not_registered)
{
	struct mshv_vtl_ram_disposition range = {
		.start_pfn = MSHV_VTL_RAM_SHARED | self->gpa / VTL_PAGE_SIZE,
		.last_pfn = self->gpa / VTL_PAGE_SIZE + PAGES_PER_PIECE,
	};

	EXPECT_EQ(-1, ioctl(self->vtl, MSHV_ADD_VTL0_MEMORY, &range));
	EXPECT_EQ(EOPNOTSUPP, errno);
}

static sigjmp_buf after_fault;

static void on_fault(int signal)
{
	siglongjmp(after_fault, signal);
}

/* The signal that reading a byte ends with, or 0. */
static int touch(volatile unsigned char *at)
{
	int signal = sigsetjmp(after_fault, 1);

	if (!signal)
		(void)*at;
	return signal;
}

TEST_F(shared, what_the_host_does_not_give_is_a_bus_error)
{
	struct sigaction action = { .sa_handler = on_fault };
	static unsigned char copy[VTL_PAGE_SIZE];
	uint64_t gpa = self->gpa - VTL_LARGE_SIZE;
	unsigned char *memory;
	size_t i;

	sigaction(SIGBUS, &action, NULL);
	sigaction(SIGSEGV, &action, NULL);
	memory = vtl_map_low_large(MSHV_VTL_LOW_SHARED | gpa, VTL_LARGE_SIZE);
	ASSERT_NE(MAP_FAILED, (void *)memory);
	EXPECT_EQ(SIGBUS, touch(memory));
	for (i = 0; i < kernel_access_count; i++)
		if (kernel_accesses[i].way != ACCESS_LOOKS)
			EXPECT_GT(0, kernel_accesses[i].act(memory, copy))
			{
				TH_LOG("%s", kernel_accesses[i].name);
			}
	EXPECT_EQ(NULL, vtl_kernel_complaint());
	/* Then the host gives it. */
	ASSERT_EQ(0, show_host(gpa, READ_WRITE_FOR_HOST));
	EXPECT_EQ(0, touch(memory));
	munmap(memory, VTL_LARGE_SIZE);
	ASSERT_EQ(0, show_host(gpa, 0));
}

TEST_F(shared, both_aliases_stand_side_by_side)
{
	struct sigaction action = { .sa_handler = on_fault };
	uint64_t neighbour = self->gpa - VTL_LARGE_SIZE;
	unsigned char *shared, *private;

	sigaction(SIGBUS, &action, NULL);
	sigaction(SIGSEGV, &action, NULL);
	ASSERT_EQ(0, vtl_accept(self->vtl, neighbour, VTL_PAGE_SIZE));
	shared = vtl_map_low(MSHV_VTL_LOW_SHARED | self->gpa, VTL_PAGE_SIZE);
	private = vtl_map_low(neighbour, VTL_PAGE_SIZE);
	ASSERT_NE(MAP_FAILED, (void *)shared);
	ASSERT_NE(MAP_FAILED, (void *)private);
	ASSERT_EQ(0, touch(shared));
	ASSERT_EQ(0, touch(private));
	shared[7] = 0x5a;
	private[7] = 0xa5;
	/* The encryption attribute outlives a change of protection. */
	ASSERT_EQ(0, mprotect(shared, VTL_PAGE_SIZE, PROT_NONE));
	EXPECT_EQ(SIGSEGV, touch(shared));
	ASSERT_EQ(0, mprotect(shared, VTL_PAGE_SIZE, PROT_READ));
	ASSERT_EQ(0, touch(shared));
	EXPECT_EQ(0x5a, shared[7]);
	EXPECT_EQ(0xa5, private[7]);
	munmap(shared, VTL_PAGE_SIZE);
	munmap(private, VTL_PAGE_SIZE);
}

TEST_HARNESS_MAIN
