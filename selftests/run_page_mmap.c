// SPDX-License-Identifier: GPL-2.0
/* What can be mapped from a VTL file, and what cannot. */
#include "vtl_harness.h"
#include "vtl_util.h"

FIXTURE(page)
{
	int fd;
};

FIXTURE_SETUP(page)
{
	self->fd = vtl_create();
	ASSERT_LE(0, self->fd);
}

FIXTURE_TEARDOWN(page)
{
	close(self->fd);
}

static void *map(int fd, size_t size, int protection, int flags, off_t page)
{
	return mmap(NULL, size, protection, flags, fd,
		    page * (off_t)VTL_PAGE_SIZE);
}

#define READ_WRITE (PROT_READ | PROT_WRITE)

#define EXPECT_REFUSED(error, size, protection, flags, page)             \
	do {                                                             \
		errno = 0;                                               \
		EXPECT_EQ(MAP_FAILED,                                    \
			  map(self->fd, size, protection, flags, page)); \
		EXPECT_EQ(error, errno)                                  \
		{                                                        \
			TH_LOG("page %lx", (unsigned long)(page));       \
		}                                                        \
	} while (0)

TEST_F(page, run_vapic_and_switch_page_of_each_cpu_are_mapped)
{
	long cpu, cpus = sysconf(_SC_NPROCESSORS_ONLN);

	for (cpu = 0; cpu < cpus; cpu++) {
		void *run = vtl_map_page(self->fd, MSHV_VTL_MMAP_RUN_PAGE, cpu);
		void *vapic =
			vtl_map_page(self->fd, MSHV_VTL_MMAP_VAPIC_PAGE, cpu);
		void *page =
			vtl_map_page(self->fd, MSHV_VTL_MMAP_SWITCH_PAGE, cpu);

		ASSERT_NE(MAP_FAILED, run);
		ASSERT_NE(MAP_FAILED, vapic);
		ASSERT_NE(MAP_FAILED, page);
		EXPECT_EQ(0, munmap(page, VTL_PAGE_SIZE));
		EXPECT_EQ(0, munmap(run, VTL_PAGE_SIZE));
		EXPECT_EQ(0, munmap(vapic, VTL_PAGE_SIZE));
	}
}

/* Every VTL file shows the same pages, one per virtual processor. */
TEST_F(page, all_files_show_the_same_page)
{
	int direct = vtl_open(DEV_MSHV_VTL);
	volatile struct mshv_vtl_run *one, *other;

	ASSERT_LE(0, direct);
	one = vtl_map_page(self->fd, MSHV_VTL_MMAP_RUN_PAGE, 0);
	other = vtl_map_page(direct, MSHV_VTL_MMAP_RUN_PAGE, 0);
	ASSERT_NE(MAP_FAILED, (void *)one);
	ASSERT_NE(MAP_FAILED, (void *)other);
	one->tdx.vp_state.cr2 = 0x1234567;
	EXPECT_EQ(0x1234567, other->tdx.vp_state.cr2);
	other->tdx.vp_state.cr2 = 0;
	EXPECT_EQ(0, one->tdx.vp_state.cr2);
	close(direct);
}

TEST_F(page, the_mapping_outlives_the_file)
{
	volatile struct mshv_vtl_run *run =
		vtl_map_page(self->fd, MSHV_VTL_MMAP_RUN_PAGE, 0);

	ASSERT_NE(MAP_FAILED, (void *)run);
	close(self->fd);
	self->fd = -1;
	run->cancel = 1;
	EXPECT_EQ(1, run->cancel);
	run->cancel = 0;
}

TEST_F(page, a_read_only_mapping_is_allowed)
{
	void *page = map(self->fd, VTL_PAGE_SIZE, PROT_READ, MAP_SHARED, 0);

	EXPECT_NE(MAP_FAILED, page);
}

TEST_F(page, more_than_one_page_is_refused)
{
	EXPECT_REFUSED(EINVAL, 2 * VTL_PAGE_SIZE, READ_WRITE, MAP_SHARED, 0);
	EXPECT_REFUSED(EINVAL, VTL_LARGE_SIZE, READ_WRITE, MAP_SHARED, 0);
}

TEST_F(page, a_private_mapping_is_refused)
{
	EXPECT_REFUSED(EINVAL, VTL_PAGE_SIZE, READ_WRITE, MAP_PRIVATE, 0);
	EXPECT_REFUSED(EINVAL, VTL_PAGE_SIZE, PROT_READ, MAP_PRIVATE, 0);
}

TEST_F(page, an_executable_mapping_is_refused)
{
	bool noexec = vtl_is_noexec(DEV_MSHV_VTL);
	int direct = vtl_open(DEV_MSHV_VTL);
	void *page;

	/* The kernel itself refuses executable mappings of anonymous inodes. */
	EXPECT_REFUSED(EPERM, VTL_PAGE_SIZE, READ_WRITE | PROT_EXEC, MAP_SHARED,
		       0);
	ASSERT_LE(0, direct);
	EXPECT_EQ(MAP_FAILED, map(direct, VTL_PAGE_SIZE, READ_WRITE | PROT_EXEC,
				  MAP_SHARED, 0));
	EXPECT_EQ(noexec ? EPERM : EINVAL, errno);
	/* Nor can it become executable later. */
	page = vtl_map_page(direct, MSHV_VTL_MMAP_RUN_PAGE, 0);
	ASSERT_NE(MAP_FAILED, page);
	EXPECT_EQ(-1, mprotect(page, VTL_PAGE_SIZE, PROT_READ | PROT_EXEC));
	EXPECT_EQ(EACCES, errno);
	close(direct);
}

TEST_F(page, unknown_kinds_are_refused)
{
	/* Register page and VMSA pages do not exist on TDX. */
	static const unsigned int kinds[] = { 1, 2, 4, 5, 0xff, 0x7fff };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(kinds); i++)
		EXPECT_REFUSED(EINVAL, VTL_PAGE_SIZE, READ_WRITE, MAP_SHARED,
			       MSHV_VTL_MMAP_PGOFF((off_t)kinds[i], 0));
	EXPECT_REFUSED(EINVAL, VTL_PAGE_SIZE, READ_WRITE, MAP_SHARED, 1L << 32);
	EXPECT_REFUSED(EINVAL, VTL_PAGE_SIZE, READ_WRITE, MAP_SHARED, 1L << 50);
}

TEST_F(page, cpus_that_do_not_exist_are_refused)
{
	/* Above any number this kernel could give. */
	static const unsigned int cpus[] = { 0xffff, 0xfffe, 0x8000 };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(cpus); i++) {
		EXPECT_REFUSED(EINVAL, VTL_PAGE_SIZE, READ_WRITE, MAP_SHARED,
			       cpus[i]);
		EXPECT_REFUSED(EINVAL, VTL_PAGE_SIZE, READ_WRITE, MAP_SHARED,
			       MSHV_VTL_MMAP_PGOFF(MSHV_VTL_MMAP_VAPIC_PAGE,
						   cpus[i]));
	}
}

/* What the host may interrupt is for each user of a VP to say. */
TEST_F(page, the_last_file_leaves_all_interrupts_blocked)
{
	struct mshv_vtl_run *run =
		vtl_map_page(self->fd, MSHV_VTL_MMAP_RUN_PAGE, 0);
	int i, other = vtl_open(DEV_MSHV_VTL), third;

	ASSERT_NE(MAP_FAILED, (void *)run);
	ASSERT_LE(0, other);
	run->proxy_irr_blocked[2] = 0x1234;
	run->proxy_irr[3] = 5;
	run->scan_proxy_irr = 1;
	/* A mapping is use enough, and so is one of another file. */
	close(self->fd);
	third = vtl_open(DEV_MSHV_VTL);
	ASSERT_LE(0, third);
	close(third);
	EXPECT_EQ(0x1234, run->proxy_irr_blocked[2]);
	ASSERT_EQ(0, munmap(run, VTL_PAGE_SIZE));

	run = vtl_map_page(other, MSHV_VTL_MMAP_RUN_PAGE, 0);
	ASSERT_NE(MAP_FAILED, (void *)run);
	for (i = 0; i < 8; i++) {
		EXPECT_EQ(0xffffffff, run->proxy_irr_blocked[i]);
		EXPECT_EQ(0, run->proxy_irr[i]);
	}
	EXPECT_EQ(0, run->scan_proxy_irr);
	munmap(run, VTL_PAGE_SIZE);
	close(other);
	self->fd = -1;
}

TEST_F(page, a_file_that_closes_takes_nothing_from_another)
{
	struct mshv_vtl_run *run =
		vtl_map_page(self->fd, MSHV_VTL_MMAP_RUN_PAGE, 0);
	int other = vtl_open(DEV_MSHV_VTL), round;
	void *page;

	ASSERT_NE(MAP_FAILED, (void *)run);
	ASSERT_LE(0, other);
	run->proxy_irr_blocked[2] = 0x1234;
	/* However often it maps the page. */
	for (round = 0; round < 3; round++) {
		page = vtl_map_page(other, MSHV_VTL_MMAP_RUN_PAGE, 0);
		ASSERT_NE(MAP_FAILED, page);
		munmap(page, VTL_PAGE_SIZE);
	}
	close(other);
	EXPECT_EQ(0x1234, run->proxy_irr_blocked[2]);
	munmap(run, VTL_PAGE_SIZE);
}

TEST_F(page, mshv_itself_maps_nothing)
{
	int mshv = vtl_open(DEV_MSHV);

	ASSERT_LE(0, mshv);
	EXPECT_EQ(MAP_FAILED, vtl_map_page(mshv, MSHV_VTL_MMAP_RUN_PAGE, 0));
	EXPECT_EQ(ENODEV, errno);
	close(mshv);
}

TEST_HARNESS_MAIN
