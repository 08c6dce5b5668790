// SPDX-License-Identifier: GPL-2.0
/*
 * Facts about module and trust domain; and, for each structure that may grow,
 * every size that a caller of another age may have.
 */
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "vtl_harness.h"
#include "vtl_util.h"

#define FIELD_ATTRIBUTES 0x1110000300000000ULL
#define FIELD_XFAM 0x1110000300000001ULL
#define FIELD_TSC_FREQUENCY 0x111000010000000cULL

struct growing {
	unsigned long command;
	unsigned int first_version;
	unsigned int known;
	int fd;
};

FIXTURE(info)
{
	int mshv;
	int vtl;
	struct growing growing[3];
	/* Ends where memory ends. */
	unsigned char *page;
};

FIXTURE_SETUP(info)
{
	self->mshv = vtl_open(DEV_MSHV);
	ASSERT_LE(0, self->mshv);
	self->vtl = vtl_create();
	ASSERT_LE(0, self->vtl);
	self->growing[0] =
		(struct growing){ MSHV_VTL_INFO, sizeof(struct mshv_vtl_info),
				  sizeof(struct mshv_vtl_info), self->mshv };
	self->growing[1] = (struct growing){
		MSHV_VTL_STATS,
		offsetof(struct mshv_vtl_stats, refused_hvcalls),
		sizeof(struct mshv_vtl_stats), self->vtl
	};
	self->growing[2] = (struct growing){ MSHV_VTL_POLICY,
					     sizeof(struct mshv_vtl_policy),
					     sizeof(struct mshv_vtl_policy),
					     self->mshv };
	self->page = mmap(NULL, 3 * VTL_PAGE_SIZE, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, self->page);
	ASSERT_EQ(0, munmap(self->page + 2 * VTL_PAGE_SIZE, VTL_PAGE_SIZE));
}

FIXTURE_TEARDOWN(info)
{
	munmap(self->page, 2 * VTL_PAGE_SIZE);
	close(self->vtl);
	close(self->mshv);
}

/*
 * Makes the call with a structure of this size, whose bytes after the head are
 * set to fill.
 */
static int call(const struct growing *growing, void *at, unsigned int size,
		int fill)
{
	struct mshv_vtl_head head = { .size = size };

	if (size > sizeof(head))
		memset(at, fill, size);
	memcpy(at, &head, sizeof(head));
	return ioctl(growing->fd, growing->command, at) ? -errno : 0;
}

/* The version that modinfo and sysfs show; 0 if there is none. */
static uint64_t loaded_version(void)
{
	FILE *file = fopen("/sys/module/mshv_vtl_tdx/version", "r");
	unsigned int major = 0, minor = 0, patch = 0;

	if (!file)
		return 0;
	if (fscanf(file, "%u.%u.%u", &major, &minor, &patch) != 3)
		major = minor = patch = 0;
	fclose(file);
	return (uint64_t)major << 32 | (uint64_t)minor << 16 | patch;
}

TEST_F(info, tells_what_the_td_has)
{
	struct mshv_vtl_info info = { .head.size = sizeof(info) };
	uint64_t value = 0;

	ASSERT_EQ(0, ioctl(self->mshv, MSHV_VTL_INFO, &info));
	EXPECT_EQ(sizeof(info), info.head.size);
	EXPECT_LT(0, info.version);
	EXPECT_EQ(loaded_version(), info.version);
	ASSERT_EQ(0, vtl_read_field(self->vtl, TDG_VM_RD, FIELD_NUM_L2_VMS,
				    &value));
	EXPECT_EQ(value, info.num_l2_vms);
	ASSERT_EQ(0, vtl_read_field(self->vtl, TDG_VM_RD, FIELD_ATTRIBUTES,
				    &value));
	EXPECT_EQ(value, info.attributes);
	ASSERT_EQ(0, vtl_read_field(self->vtl, TDG_VM_RD, FIELD_XFAM, &value));
	EXPECT_EQ(value, info.xfam);
	EXPECT_EQ(3, info.xfam & 3);
	ASSERT_EQ(0, vtl_read_field(self->vtl, TDG_VM_RD, FIELD_TSC_FREQUENCY,
				    &value));
	EXPECT_EQ(value * 25000, info.tsc_khz);
	ASSERT_EQ(0, vtl_read_field(self->vtl, TDG_SYS_RD, FIELD_TDX_FEATURES0,
				    &value));
	EXPECT_EQ(value, info.tdx_features0);
	EXPECT_LE(sysconf(_SC_NPROCESSORS_CONF), info.num_cpus);
	EXPECT_LE(64, info.audit_records);
	EXPECT_EQ(0, info.audit_records & (info.audit_records - 1));
	EXPECT_EQ(MSHV_VTL_EXIT_KINDS, info.exit_kinds);
}

TEST_F(info, capabilities_are_those_that_check_extension_tells)
{
	struct mshv_vtl_info info = { .head.size = sizeof(info) };
	__u32 bit;

	ASSERT_EQ(0, ioctl(self->mshv, MSHV_VTL_INFO, &info));
	EXPECT_EQ(31, info.capabilities & 31);
	for (bit = 0; bit < 64; bit++) {
		__u32 number = 0x100 + bit;
		int answer = ioctl(self->mshv, MSHV_CHECK_EXTENSION, &number);

		EXPECT_EQ(info.capabilities >> bit & 1 ? 1 : -1, answer)
		{
			TH_LOG("extension %x", number);
		}
	}
}

TEST_F(info, a_selector_is_refused)
{
	struct mshv_vtl_info info = { .head = { .size = sizeof(info),
						.selector = 1 } };

	EXPECT_EQ(-1, ioctl(self->mshv, MSHV_VTL_INFO, &info));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(0, info.version);
}

/* Each leaf that the policy lists is not refused for its number, others are. */
TEST_F(info, the_policy_is_told_line_by_line)
{
	struct mshv_vtl_policy line = { .head.size = sizeof(line) };
	uint64_t seen = 0;
	unsigned int number;

	ASSERT_EQ(0, ioctl(self->mshv, MSHV_VTL_POLICY, &line));
	ASSERT_LT(8, line.lines);
	for (number = 0; number < line.lines; number++) {
		line = (struct mshv_vtl_policy){
			.head = { .size = sizeof(line), .selector = number }
		};
		ASSERT_EQ(0, ioctl(self->mshv, MSHV_VTL_POLICY, &line));
		EXPECT_EQ(sizeof(line), line.head.size);
		EXPECT_EQ(number, line.head.selector);
		EXPECT_EQ(0, line.reserved);
		EXPECT_GT(sizeof(line.name), strlen(line.name));
		EXPECT_LT(0, strlen(line.name));
		EXPECT_GT(sizeof(line.reason), strlen(line.reason));
		EXPECT_LT(0, strlen(line.reason));
		if (!(line.leaf >> 16))
			seen |= 1ULL << line.leaf;
	}
	EXPECT_EQ(1ULL << TDG_MEM_PAGE_ACCEPT | 1ULL << TDG_VM_RD |
			  1ULL << TDG_VM_WR | 1ULL << TDG_VP_RD |
			  1ULL << TDG_VP_WR | 1ULL << TDG_SYS_RD |
			  1ULL << TDG_MEM_PAGE_ATTR_RD |
			  1ULL << TDG_MEM_PAGE_ATTR_WR | 1ULL << TDG_VP_INVGLA |
			  1ULL << TDG_MEM_PAGE_RELEASE,
		  seen);
	for (number = line.lines; number < MSHV_VTL_POLICY_HVCALLS;
	     number = number * 2) {
		line.head.selector = number;
		EXPECT_EQ(-1, ioctl(self->mshv, MSHV_VTL_POLICY, &line));
		EXPECT_EQ(ENXIO, errno);
	}
}

/* The other table exists on every host: it says what would be allowed. */
TEST_F(info, the_policy_of_hypercalls_is_told_line_by_line)
{
	struct mshv_vtl_policy line = {
		.head = { .size = sizeof(line),
			  .selector = MSHV_VTL_POLICY_HVCALLS }
	};
	unsigned int number, lines, last = 0;

	ASSERT_EQ(0, ioctl(self->mshv, MSHV_VTL_POLICY, &line));
	lines = line.lines;
	ASSERT_LT(8, lines);
	for (number = 0; number < lines; number++) {
		line = (struct mshv_vtl_policy){
			.head = { .size = sizeof(line),
				  .selector = MSHV_VTL_POLICY_HVCALLS | number }
		};
		ASSERT_EQ(0, ioctl(self->mshv, MSHV_VTL_POLICY, &line));
		EXPECT_EQ(lines, line.lines);
		/* In the order of their codes, each once. */
		EXPECT_LT(last, line.leaf);
		last = line.leaf;
		EXPECT_GT(sizeof(line.name), strlen(line.name));
		EXPECT_LT(0, strlen(line.name));
		EXPECT_GT(sizeof(line.reason), strlen(line.reason));
		EXPECT_LT(0, strlen(line.reason));
	}
	line.head.selector = MSHV_VTL_POLICY_HVCALLS | lines;
	EXPECT_EQ(-1, ioctl(self->mshv, MSHV_VTL_POLICY, &line));
	EXPECT_EQ(ENXIO, errno);
	line.head.selector = ~0U;
	EXPECT_EQ(-1, ioctl(self->mshv, MSHV_VTL_POLICY, &line));
	EXPECT_EQ(ENXIO, errno);
}

TEST_F(info, other_files_do_not_know_the_commands)
{
	struct mshv_vtl_stats stats = { .head.size = sizeof(stats) };
	int low = vtl_open(DEV_MSHV_VTL_LOW);

	ASSERT_LE(0, low);
	EXPECT_EQ(-1, ioctl(self->vtl, MSHV_VTL_INFO, &stats));
	EXPECT_EQ(ENOTTY, errno);
	EXPECT_EQ(-1, ioctl(self->mshv, MSHV_VTL_STATS, &stats));
	EXPECT_EQ(ENOTTY, errno);
	EXPECT_EQ(-1, ioctl(low, MSHV_VTL_STATS, &stats));
	EXPECT_EQ(ENOTTY, errno);
	close(low);
}

TEST_F(info, too_small_structures_are_refused)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(self->growing); i++) {
		const struct growing *growing = &self->growing[i];
		unsigned int v1 = growing->first_version;
		unsigned int sizes[] = { 0, 1, 7, 8, 16, v1 - 8, v1 - 1 };
		size_t j;

		for (j = 0; j < ARRAY_SIZE(sizes); j++) {
			EXPECT_EQ(-EINVAL,
				  call(growing, self->page, sizes[j], 0))
			{
				TH_LOG("command %zu size %u", i, sizes[j]);
			}
		}
	}
}

TEST_F(info, larger_structures_are_served_when_the_rest_is_zero)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(self->growing); i++) {
		const struct growing *growing = &self->growing[i];
		unsigned int v1 = growing->first_version;
		unsigned int known = growing->known;
		unsigned int sizes[] = { v1,	    v1 + 1, v1 + 7,
					 v1 + 8,    known,  known + 1,
					 known + 8, 4095,   4096 };
		struct mshv_vtl_head *head = (void *)self->page;
		size_t j;

		for (j = 0; j < ARRAY_SIZE(sizes); j++) {
			EXPECT_EQ(0, call(growing, self->page, sizes[j], 0));
			EXPECT_LE(v1, head->size);
			EXPECT_GE(sizes[j], head->size);
			if (sizes[j] >= known)
				EXPECT_EQ(known, head->size);
		}
		EXPECT_EQ(-E2BIG, call(growing, self->page, 4097, 0));
	}
}

/* Also when it ends in the middle of a field. */
TEST_F(info, an_answer_is_as_long_as_it_says)
{
	const struct growing *stats = &self->growing[1];
	unsigned int v1 = stats->first_version, more;

	for (more = 1; more < 8; more++) {
		struct mshv_vtl_head head;

		ASSERT_EQ(0, call(stats, self->page, v1 + more, 0xa5));
		memcpy(&head, self->page, sizeof(head));
		EXPECT_EQ(v1 + more, head.size);
		/* Such a number of hypercalls can't have been refused. */
		EXPECT_NE(0xa5, self->page[v1 + more - 1]);
		EXPECT_EQ(0, self->page[v1 + more]);
	}
}

TEST_F(info, set_bytes_beyond_what_is_known_are_refused)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(self->growing); i++) {
		const struct growing *growing = &self->growing[i];
		unsigned int known = growing->known;

		/* Fields of the structure are output, whatever they contain. */
		EXPECT_EQ(0, call(growing, self->page, known, 0xa5));
		EXPECT_EQ(-E2BIG, call(growing, self->page, known + 1, 0xa5));
		EXPECT_EQ(-E2BIG, call(growing, self->page, 4096, 0xa5));
		/* A refusal writes nothing. */
		EXPECT_EQ(0xa5, self->page[known - 1]);
	}
}

TEST_F(info, memory_that_ends_too_early_is_efault)
{
	unsigned char *end = self->page + 2 * VTL_PAGE_SIZE;
	struct mshv_vtl_head head = { .size = 4096 };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(self->growing); i++) {
		const struct growing *growing = &self->growing[i];
		unsigned int v1 = growing->first_version;

		EXPECT_EQ(0, call(growing, end - v1, v1, 0));
		memcpy(end - v1, &head, sizeof(head));
		EXPECT_EQ(-1, ioctl(growing->fd, growing->command, end - v1));
		EXPECT_EQ(EFAULT, errno);
		EXPECT_EQ(-1, ioctl(growing->fd, growing->command, end - 4));
		EXPECT_EQ(EFAULT, errno);
		EXPECT_EQ(-1, ioctl(growing->fd, growing->command, NULL));
		EXPECT_EQ(EFAULT, errno);
	}
}

TEST_F(info, memory_that_can_only_be_read_is_efault)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(self->growing); i++) {
		const struct growing *growing = &self->growing[i];

		ASSERT_EQ(0,
			  call(growing, self->page, growing->first_version, 0));
		ASSERT_EQ(0, mprotect(self->page, VTL_PAGE_SIZE, PROT_READ));
		EXPECT_EQ(-1, ioctl(growing->fd, growing->command, self->page));
		EXPECT_EQ(EFAULT, errno);
		ASSERT_EQ(0, mprotect(self->page, VTL_PAGE_SIZE,
				      PROT_READ | PROT_WRITE));
	}
}

TEST_HARNESS_MAIN
