// SPDX-License-Identifier: GPL-2.0
/*
 * MSHV_ADD_VTL0_MEMORY: what it takes, and that direct I/O then works on the
 * memory of the lower VTLs.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/uio.h>

#include "vtl_harness.h"
#include "vtl_util.h"

#define FRAME(gpa) ((gpa) >> 12)
#define READ_WRITE (PROT_READ | PROT_WRITE)

static int add(int vtl, uint64_t start_pfn, uint64_t last_pfn)
{
	struct mshv_vtl_ram_disposition range = { .start_pfn = start_pfn,
						  .last_pfn = last_pfn };

	return ioctl(vtl, MSHV_ADD_VTL0_MEMORY, &range) ? -errno : 0;
}

/* 0, or the negative errno of pinning a page and reading it back by a pipe. */
static int pin_and_read(void *page)
{
	struct iovec vector = { .iov_base = page, .iov_len = VTL_PAGE_SIZE };
	static uint8_t copy[VTL_PAGE_SIZE];
	int pipe_fds[2], result = 0;

	if (pipe(pipe_fds))
		return -errno;
	if (vmsplice(pipe_fds[1], &vector, 1, 0) != (ssize_t)VTL_PAGE_SIZE)
		result = -errno;
	else if (read(pipe_fds[0], copy, sizeof(copy)) != sizeof(copy))
		result = -EIO;
	else if (memcmp(copy, page, sizeof(copy)))
		result = -EBADMSG;
	close(pipe_fds[0]);
	close(pipe_fds[1]);
	return result;
}

FIXTURE(memory)
{
	int vtl;
	uint64_t base, size;
	/* A piece that no other test of this file needs accepted or not. */
	uint64_t gpa;
};

FIXTURE_SETUP(memory)
{
	self->vtl = vtl_create();
	ASSERT_LE(0, self->vtl);
	if (!vtl_memory(&self->base, &self->size) ||
	    self->size < 8 * VTL_LARGE_SIZE)
		SKIP(return,
			   "no vtl0_mem= of 16 MiB or more on the kernel command line");
	self->gpa = self->base + 2 * VTL_LARGE_SIZE;
	ASSERT_EQ(0, vtl_accept(self->vtl, self->gpa, 2 * VTL_LARGE_SIZE));
}

FIXTURE_TEARDOWN(memory)
{
	close(self->vtl);
}

TEST_F(memory, what_is_no_lower_memory_is_refused)
{
	uint64_t first = FRAME(self->gpa), ram;

	EXPECT_EQ(-EINVAL, add(self->vtl, first, first));
	EXPECT_EQ(-EINVAL, add(self->vtl, first + 512, first));
	EXPECT_EQ(-EINVAL, add(self->vtl, first + 1, first + 512));
	EXPECT_EQ(-EINVAL, add(self->vtl, first, first + 511));
	EXPECT_EQ(-EINVAL, add(self->vtl, 0, 512));
	EXPECT_EQ(-EINVAL,
		  add(self->vtl, FRAME(1ULL << 40), FRAME(1ULL << 40) + 512));
	EXPECT_EQ(-EINVAL,
		  add(self->vtl, FRAME(1ULL << 47), FRAME(1ULL << 47) + 512));
	EXPECT_EQ(-EINVAL, add(self->vtl, 0, ~0ULL << 9));
	EXPECT_EQ(-EINVAL, add(self->vtl, 1ULL << 52, 1ULL << 53));
	EXPECT_EQ(-EINVAL, add(self->vtl, ~0ULL << 9, 0));
	if (vtl_system_ram(&ram)) {
		ram = FRAME(ram) & ~511ULL;
		EXPECT_EQ(-EINVAL, add(self->vtl, ram, ram + 512));
	}
}

/* The kernel has no sound way to reach pages by the shared alias. */
TEST_F(memory, memory_shared_with_the_host_is_not_registered)
{
	uint64_t first = MSHV_VTL_RAM_SHARED | FRAME(self->gpa);
	uint64_t end = FRAME(self->gpa) + 512;
	uint8_t *memory;

	EXPECT_EQ(-EOPNOTSUPP, add(self->vtl, first, end));
	EXPECT_EQ(-EINVAL, add(self->vtl, first + 1, end));
	memory = vtl_map_low(self->gpa, VTL_PAGE_SIZE);
	ASSERT_NE(MAP_FAILED, (void *)memory);
	EXPECT_EQ(-EFAULT, pin_and_read(memory));
	munmap(memory, VTL_PAGE_SIZE);
	/* The shared alias of registered memory has no pages either. */
	ASSERT_EQ(0, add(self->vtl, FRAME(self->gpa), end));
	EXPECT_EQ(-EOPNOTSUPP, add(self->vtl, first, end));
	memory = vtl_map_low(MSHV_VTL_LOW_SHARED | self->gpa, VTL_PAGE_SIZE);
	ASSERT_NE(MAP_FAILED, (void *)memory);
	EXPECT_EQ(-EFAULT, pin_and_read(memory));
	munmap(memory, VTL_PAGE_SIZE);
}

/* A mapping is of pages if all of it was registered when it was made. */
TEST_F(memory, a_mapping_that_is_registered_in_part_is_of_frames)
{
	uint64_t first = FRAME(self->gpa);
	uint8_t *memory;

	ASSERT_EQ(0, add(self->vtl, first, first + 512));
	memory = vtl_map_low(self->gpa, VTL_LARGE_SIZE + VTL_PAGE_SIZE);
	ASSERT_NE(MAP_FAILED, (void *)memory);
	memory[0] = 1;
	memory[VTL_LARGE_SIZE] = 2;
	EXPECT_EQ(-EFAULT, pin_and_read(memory));
	EXPECT_EQ(-EFAULT, pin_and_read(memory + VTL_LARGE_SIZE));
	/* And stays so. */
	ASSERT_EQ(0, add(self->vtl, first + 512, first + 1024));
	EXPECT_EQ(-EFAULT, pin_and_read(memory));
	munmap(memory, VTL_LARGE_SIZE + VTL_PAGE_SIZE);
	/* Over the border of two registrations it is of pages. */
	memory = vtl_map_low(self->gpa + VTL_LARGE_SIZE - VTL_PAGE_SIZE,
			     2 * VTL_PAGE_SIZE);
	ASSERT_NE(MAP_FAILED, (void *)memory);
	EXPECT_EQ(0, pin_and_read(memory));
	EXPECT_EQ(0, pin_and_read(memory + VTL_PAGE_SIZE));
	munmap(memory, 2 * VTL_PAGE_SIZE);
}

#define MIN_FREE "/proc/sys/vm/min_free_kbytes"

/* A number out of a file, after a word, or 0. */
static long number_in(const char *path, const char *word)
{
	FILE *file = fopen(path, "r");
	char line[128];
	long number = 0;

	while (file && !number && fgets(line, sizeof(line), file))
		if (!strncmp(line, word, strlen(word)))
			number = atol(line + strlen(word));
	if (file)
		fclose(file);
	return number;
}

static bool keep_free(long kib)
{
	FILE *file = fopen(MIN_FREE, "w");
	bool is_set = file && fprintf(file, "%ld\n", kib) > 0;

	return file && !fclose(file) && is_set;
}

/* Without a word of the kernel, whose warning ends a debug kernel. */
TEST_F(memory, registration_without_memory_for_its_pages_is_enomem)
{
	uint64_t first = FRAME(self->base + 6 * VTL_LARGE_SIZE);
	long before = number_in(MIN_FREE, ""), kept = before, left;
	int result, tries = 32;

	ASSERT_LT(0, before);
	/* The kernel keeps more than it is told. */
	for (;;) {
		left = number_in("/proc/meminfo", "MemAvailable:");
		if (left <= 3072 || !tries--)
			break;
		kept += left / 2;
		if (!keep_free(kept))
			break;
	}
	result = add(self->vtl, first, first + 512);
	ASSERT_TRUE(keep_free(before));
	EXPECT_GE(3072, left);
	EXPECT_EQ(-ENOMEM, result);
	EXPECT_EQ(0, add(self->vtl, first, first + 512));
}

TEST_F(memory, pointers_to_nowhere_are_efault)
{
	EXPECT_EQ(-1, ioctl(self->vtl, MSHV_ADD_VTL0_MEMORY, NULL));
	EXPECT_EQ(EFAULT, errno);
	EXPECT_EQ(-1, ioctl(self->vtl, MSHV_ADD_VTL0_MEMORY, -8L));
	EXPECT_EQ(EFAULT, errno);
}

TEST_F(memory, only_registered_memory_can_be_pinned)
{
	uint64_t first = FRAME(self->gpa);
	uint8_t *before = vtl_map_low(self->gpa, VTL_PAGE_SIZE);
	uint8_t *after;

	ASSERT_NE(MAP_FAILED, (void *)before);
	before[7] = 0x77;
	EXPECT_NE(0, pin_and_read(before));
	ASSERT_EQ(0, add(self->vtl, first, first + 512));
	after = vtl_map_low(self->gpa, VTL_LARGE_SIZE);
	ASSERT_NE(MAP_FAILED, (void *)after);
	EXPECT_EQ(0x77, after[7]);
	EXPECT_EQ(0, pin_and_read(after));
	EXPECT_EQ(0, pin_and_read(after + VTL_LARGE_SIZE - VTL_PAGE_SIZE));
	munmap(before, VTL_PAGE_SIZE);
	munmap(after, VTL_LARGE_SIZE);
}

TEST_F(memory, twice_and_overlapping_is_quiet)
{
	uint64_t first = FRAME(self->gpa);
	uint8_t *memory;

	EXPECT_EQ(0, add(self->vtl, first + 512, first + 1024));
	EXPECT_EQ(0, add(self->vtl, first + 512, first + 1024));
	EXPECT_EQ(0, add(self->vtl, first, first + 1024));
	EXPECT_EQ(0, add(self->vtl, first, first + 512));
	memory = vtl_map_low(self->gpa, 2 * VTL_LARGE_SIZE);
	ASSERT_NE(MAP_FAILED, (void *)memory);
	EXPECT_EQ(0, pin_and_read(memory));
	EXPECT_EQ(0, pin_and_read(memory + VTL_LARGE_SIZE));
	munmap(memory, 2 * VTL_LARGE_SIZE);
}

TEST_F(memory, it_is_taken_back_when_the_last_user_goes)
{
	uint64_t first = FRAME(self->gpa);
	uint8_t *memory;

	ASSERT_EQ(0, add(self->vtl, first, first + 512));
	memory = vtl_map_low(self->gpa, VTL_PAGE_SIZE);
	ASSERT_NE(MAP_FAILED, (void *)memory);
	/* The mapping is a user too. */
	close(self->vtl);
	EXPECT_EQ(0, pin_and_read(memory));
	munmap(memory, VTL_PAGE_SIZE);
	self->vtl = vtl_create();
	ASSERT_LE(0, self->vtl);
	memory = vtl_map_low(self->gpa, VTL_PAGE_SIZE);
	ASSERT_NE(MAP_FAILED, (void *)memory);
	EXPECT_NE(0, pin_and_read(memory));
	munmap(memory, VTL_PAGE_SIZE);
}

/* A page that is still pinned for I/O is not removed. */
TEST_F(memory, a_held_page_stays)
{
	struct iovec vector = { .iov_len = VTL_PAGE_SIZE };
	uint64_t first = FRAME(self->gpa);
	uint8_t *memory, copy[16];
	int pipe_fds[2];

	ASSERT_EQ(0, pipe(pipe_fds));
	ASSERT_EQ(0, add(self->vtl, first, first + 512));
	memory = vtl_map_low(self->gpa, VTL_PAGE_SIZE);
	ASSERT_NE(MAP_FAILED, (void *)memory);
	memset(memory, 0x3c, VTL_PAGE_SIZE);
	vector.iov_base = memory;
	ASSERT_EQ(VTL_PAGE_SIZE, vmsplice(pipe_fds[1], &vector, 1, 0));
	munmap(memory, VTL_PAGE_SIZE);
	close(self->vtl);
	ASSERT_EQ(sizeof(copy), read(pipe_fds[0], copy, sizeof(copy)));
	EXPECT_EQ(0x3c, copy[0]);
	EXPECT_EQ(0x3c, copy[15]);
	close(pipe_fds[0]);
	close(pipe_fds[1]);
	/*
	 * Checked again at the next last close, and by a timer: held_pages.c.
	 */
	close(vtl_create());
	self->vtl = vtl_create();
	ASSERT_LE(0, self->vtl);
	memory = vtl_map_low(self->gpa, VTL_PAGE_SIZE);
	ASSERT_NE(MAP_FAILED, (void *)memory);
	EXPECT_NE(0, pin_and_read(memory));
	munmap(memory, VTL_PAGE_SIZE);
}

static uint32_t checksum(const uint32_t *words, size_t count)
{
	uint32_t sum = 0;

	while (count--)
		sum = (sum << 1 | sum >> 31) + *words++;
	return sum;
}

/*
 * A file is read into VTL0's memory by direct I/O, summed up and inverted by a
 * guest there, and written back by direct I/O.
 */
TEST_F(memory, a_file_goes_through_the_guest_by_direct_io)
{
	const size_t size = VTL_LARGE_SIZE;
	static uint32_t data[VTL_LARGE_SIZE / 4], back[VTL_LARGE_SIZE / 4];
	struct vtl_guest guest = { 0 };
	int buffered, direct;
	uint8_t *memory;
	size_t i;

	buffered = vtl_open_ramdisk(O_RDWR | O_CLOEXEC);
	if (buffered < 0)
		SKIP(return,
			   "no block device: neither /dev/ram0 nor /lib/brd.ko");
	for (i = 0; i < ARRAY_SIZE(data); i++)
		data[i] = i * 2654435761U ^ i >> 7;
	ASSERT_EQ(size, pwrite(buffered, data, size, 0));
	ASSERT_EQ(0, fsync(buffered));
	direct = vtl_open_ramdisk(O_RDWR | O_DIRECT | O_CLOEXEC);
	ASSERT_LE(0, direct);

	ASSERT_EQ(0, vtl_guest_open(&guest, 0))
	{
		TH_LOG("%s", guest.why);
	}
	ASSERT_EQ(0, vtl_set_rights(guest.fd, self->gpa, size, RIGHTS_ALL));
	ASSERT_EQ(0, add(self->vtl, FRAME(self->gpa), FRAME(self->gpa + size)));
	memory = vtl_map_low(self->gpa, size);
	ASSERT_NE(MAP_FAILED, (void *)memory);
	ASSERT_EQ(size, pread(direct, memory, size, 0));

	ASSERT_EQ(0, vtl_guest_load(&guest, vtl_guest_checksum,
				    vtl_guest_checksum_end));
	guest.run->tdx.l2_enter_guest_state.gpr[RSI] = self->gpa;
	guest.run->tdx.l2_enter_guest_state.gpr[RCX] = ARRAY_SIZE(data);
	ASSERT_EQ(0, vtl_run(&guest));
	ASSERT_EQ(EXIT_HLT, vtl_exit_reason(&guest));
	EXPECT_EQ(checksum(data, ARRAY_SIZE(data)),
		  (uint32_t)guest.run->tdx.l2_enter_guest_state.gpr[RAX]);

	ASSERT_EQ(size, pwrite(direct, memory, size, size));
	close(direct);
	ASSERT_EQ(size, pread(buffered, back, size, size));
	for (i = 0; i < ARRAY_SIZE(data); i++)
		ASSERT_EQ(~data[i], back[i]);
	close(buffered);
	munmap(memory, size);
	vtl_guest_close(&guest);
}

TEST(cr4_fixed1_is_told)
{
	int vtl = vtl_create();
	uint64_t value = 0;

	ASSERT_LE(0, vtl);
	EXPECT_EQ(-1, ioctl(vtl, MSHV_READ_VMX_CR4_FIXED1, NULL));
	EXPECT_EQ(EFAULT, errno);
	ASSERT_EQ(0, ioctl(vtl, MSHV_READ_VMX_CR4_FIXED1, &value));
	/* PAE and VMXE may be set, reserved bits 63:32 may not. */
	EXPECT_EQ(0x2020, value & 0x2020);
	EXPECT_EQ(0, value >> 32);
	close(vtl);
}

TEST(nobody_may_set_the_time)
{
	struct mshv_vtl_partition_time time = { .tsc_sequence = 1 };
	int vtl = vtl_create();

	ASSERT_LE(0, vtl);
	EXPECT_EQ(-1, ioctl(vtl, MSHV_RESTORE_PARTITION_TIME, &time));
	EXPECT_EQ(EOPNOTSUPP, errno);
	close(vtl);
}

TEST_HARNESS_MAIN
