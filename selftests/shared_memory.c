// SPDX-License-Identifier: GPL-2.0
/*
 * MSHV_ADD_VTL0_MEMORY for memory that is shared with the host: direct I/O
 * works on it by the shared alias, and only by that. Hyper-V makes it shared.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/uio.h>

#include "vtl_harness.h"
#include "vtl_util.h"

#define MODIFY_HOST_VISIBILITY 0xdb
#define READ_WRITE_FOR_HOST 3
#define REPS(count) ((uint64_t)(count) << 32)
#define PAGES_PER_CALL 256
#define PAGES_PER_PIECE 512
#define SHARED MSHV_VTL_RAM_SHARED

FIXTURE(shared)
{
	int vtl;
	uint64_t gpa, first;
};

static int add(int vtl, uint64_t start_pfn, uint64_t last_pfn)
{
	struct mshv_vtl_ram_disposition range = { .start_pfn = start_pfn,
						  .last_pfn = last_pfn };

	return ioctl(vtl, MSHV_ADD_VTL0_MEMORY, &range) ? -errno : 0;
}

/* Asks the host to see a 2 MiB piece. */
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
	self->first = self->gpa / VTL_PAGE_SIZE;
	ASSERT_EQ(0, show_host(self->gpa, READ_WRITE_FOR_HOST));
}

FIXTURE_TEARDOWN(shared)
{
	close(self->vtl);
}

/* What the kernel itself reads of a page, by a pipe; or why it can't. */
static int read_by_kernel(void *page, unsigned char *copy)
{
	struct iovec vector = { .iov_base = page, .iov_len = VTL_PAGE_SIZE };
	int ends[2], result = 0;

	if (pipe(ends))
		return -errno;
	if (vmsplice(ends[1], &vector, 1, 0) != (ssize_t)VTL_PAGE_SIZE)
		result = -errno;
	else if (read(ends[0], copy, VTL_PAGE_SIZE) != (ssize_t)VTL_PAGE_SIZE)
		result = -EIO;
	close(ends[0]);
	close(ends[1]);
	return result;
}

TEST_F(shared, other_bits_and_ranges_are_refused)
{
	EXPECT_EQ(-EINVAL, add(self->vtl, SHARED | self->first, self->first));
	EXPECT_EQ(-EINVAL, add(self->vtl, SHARED | (self->first + 1),
			       self->first + PAGES_PER_PIECE));
	EXPECT_EQ(-EINVAL, add(self->vtl, SHARED | 512, 1024));
	EXPECT_EQ(-EINVAL, add(self->vtl, SHARED | self->first,
			       SHARED | (self->first + PAGES_PER_PIECE)));
	EXPECT_EQ(-EINVAL, add(self->vtl, SHARED << 1 | self->first,
			       self->first + PAGES_PER_PIECE));
}

TEST_F(shared, registered_memory_is_reached_by_its_own_alias_only)
{
	static unsigned char copy[VTL_PAGE_SIZE];
	uint64_t end = self->first + PAGES_PER_PIECE, offset;
	unsigned char *memory;

	memory = vtl_map_low(MSHV_VTL_LOW_SHARED | self->gpa, VTL_LARGE_SIZE);
	ASSERT_NE(MAP_FAILED, (void *)memory);
	memory[5] = 0x5a;
	EXPECT_NE(0, read_by_kernel(memory, copy));
	munmap(memory, VTL_LARGE_SIZE);

	ASSERT_EQ(0, add(self->vtl, SHARED | self->first, end));
	ASSERT_EQ(0, add(self->vtl, SHARED | self->first, end));
	EXPECT_EQ(-EEXIST, add(self->vtl, self->first, end));
	EXPECT_EQ(-EEXIST, add(self->vtl, self->first - PAGES_PER_PIECE, end));
	memory = vtl_map_low(MSHV_VTL_LOW_SHARED | self->gpa, VTL_LARGE_SIZE);
	ASSERT_NE(MAP_FAILED, (void *)memory);
	for (offset = 0; offset < VTL_LARGE_SIZE; offset += 64 * 4096) {
		memset(memory + offset, 0x11 + offset / 65536, VTL_PAGE_SIZE);
		ASSERT_EQ(0, read_by_kernel(memory + offset, copy));
		/* By the private alias it would read something else. */
		EXPECT_EQ(0, memcmp(memory + offset, copy, VTL_PAGE_SIZE));
	}
	munmap(memory, VTL_LARGE_SIZE);
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

/* Structures do not make the host give a page. One it does not give is no page for I/O. */
TEST_F(shared, registered_memory_that_the_host_does_not_give_is_a_bus_error)
{
	struct sigaction action = { .sa_handler = on_fault };
	static unsigned char copy[VTL_PAGE_SIZE];
	uint64_t gpa = self->gpa - VTL_LARGE_SIZE;
	uint64_t first = self->first - PAGES_PER_PIECE;
	unsigned char *memory;

	sigaction(SIGBUS, &action, NULL);
	sigaction(SIGSEGV, &action, NULL);
	ASSERT_EQ(0, add(self->vtl, SHARED | first, first + PAGES_PER_PIECE));
	memory = vtl_map_low(MSHV_VTL_LOW_SHARED | gpa, VTL_LARGE_SIZE);
	ASSERT_NE(MAP_FAILED, (void *)memory);
	EXPECT_EQ(SIGBUS, touch(memory));
	EXPECT_EQ(-EFAULT, read_by_kernel(memory, copy));
	EXPECT_EQ(-EFAULT,
		  read_by_kernel(memory + VTL_LARGE_SIZE - VTL_PAGE_SIZE,
				 copy));
	/* Then the host gives it. */
	ASSERT_EQ(0, show_host(gpa, READ_WRITE_FOR_HOST));
	EXPECT_EQ(0, touch(memory));
	EXPECT_EQ(0, read_by_kernel(memory, copy));
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

/* The device's driver reads and writes what the host sees. */
TEST_F(shared, direct_io_goes_to_and_from_shared_pages)
{
	static unsigned char data[4 * VTL_PAGE_SIZE];
	uint64_t end = self->first + PAGES_PER_PIECE;
	int buffered = vtl_open_ramdisk(O_RDWR | O_CLOEXEC), direct;
	unsigned char *memory;
	size_t i;

	if (buffered < 0)
		SKIP(return,
			   "no block device: neither /dev/ram0 nor /lib/brd.ko");
	direct = vtl_open_ramdisk(O_RDWR | O_DIRECT | O_CLOEXEC);
	ASSERT_LE(0, direct);
	for (i = 0; i < sizeof(data); i++)
		data[i] = i * 31 ^ i >> 9;
	ASSERT_EQ(sizeof(data), pwrite(buffered, data, sizeof(data), 0));
	ASSERT_EQ(0, fsync(buffered));
	memory = vtl_map_low(MSHV_VTL_LOW_SHARED | self->gpa, VTL_LARGE_SIZE);
	ASSERT_NE(MAP_FAILED, (void *)memory);
	memset(memory, 0, sizeof(data));
	/* Pages without structures are no pages for a device. */
	EXPECT_EQ(-1, pread(direct, memory, sizeof(data), 0));
	munmap(memory, VTL_LARGE_SIZE);

	ASSERT_EQ(0, add(self->vtl, SHARED | self->first, end));
	memory = vtl_map_low(MSHV_VTL_LOW_SHARED | self->gpa, VTL_LARGE_SIZE);
	ASSERT_NE(MAP_FAILED, (void *)memory);
	ASSERT_EQ(sizeof(data), pread(direct, memory, sizeof(data), 0));
	EXPECT_EQ(0, memcmp(memory, data, sizeof(data)));
	for (i = 0; i < sizeof(data); i++)
		memory[i] = ~memory[i];
	ASSERT_EQ(sizeof(data),
		  pwrite(direct, memory, sizeof(data), sizeof(data)));
	munmap(memory, VTL_LARGE_SIZE);
	close(direct);
	for (i = 0; i < sizeof(data); i++)
		data[i] = ~data[i];
	memory = calloc(1, sizeof(data));
	ASSERT_NE(NULL, memory);
	ASSERT_EQ(sizeof(data),
		  pread(buffered, memory, sizeof(data), sizeof(data)));
	EXPECT_EQ(0, memcmp(memory, data, sizeof(data)));
	free(memory);
	close(buffered);
}

TEST_F(shared, it_is_taken_back_with_the_last_user)
{
	static unsigned char copy[VTL_PAGE_SIZE];
	uint64_t end = self->first + PAGES_PER_PIECE;
	unsigned char *memory;

	ASSERT_EQ(0, add(self->vtl, SHARED | self->first, end));
	close(self->vtl);
	self->vtl = vtl_create();
	memory = vtl_map_low(MSHV_VTL_LOW_SHARED | self->gpa, VTL_PAGE_SIZE);
	ASSERT_NE(MAP_FAILED, (void *)memory);
	memory[0] = 1;
	EXPECT_NE(0, read_by_kernel(memory, copy));
	munmap(memory, VTL_PAGE_SIZE);
	/* As the other kind, then. */
	EXPECT_EQ(0, add(self->vtl, self->first, end));
	EXPECT_EQ(-EEXIST, add(self->vtl, SHARED | self->first, end));
}

TEST_HARNESS_MAIN
