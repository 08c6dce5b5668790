// SPDX-License-Identifier: GPL-2.0
/*
 * /dev/mshv_hvcall on a Hyper-V host: which calls a file may make, what goes in
 * and out, and which part of the host's answer reaches the caller.
 */
#include <sys/ioctl.h>
#include <sys/klog.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>

#include "vtl_harness.h"
#include "hvcall.h"
#include "vtl_util.h"

#define HV_INVALID_CODE 2
#define HV_INVALID_INPUT 3
#define HV_INVALID_PARAMETER 5
#define HV_INVALID_PARTITION_ID 0xd
#define HV_INVALID_DEVICE_ID 0x57
#define HV_VTL_ALREADY_ENABLED 0x86

FIXTURE(hvcall)
{
	int fd;
	struct mshv_vtl_hvcall call;
};

FIXTURE_SETUP(hvcall)
{
	self->fd = vtl_open(DEV_MSHV_HVCALL);
	ASSERT_LE(0, self->fd);
	ASSERT_EQ(0, hvcall_allow(self->fd, 64));
	self->call.status = 0x5555555555555555;
}

FIXTURE_TEARDOWN(hvcall)
{
	close(self->fd);
}

TEST_F(hvcall, reads_registers_and_says_how_many)
{
	struct register_call input = SELF;
	uint64_t output[4];

	memset(output, 0x55, sizeof(output));
	input.names[0] = VSM_CAPABILITIES;
	input.names[1] = VSM_PARTITION_CONFIG;
	ASSERT_EQ(0, hvcall(&self->call, self->fd, GET_VP_REGISTERS | REPS(2),
			    &input, 24, output, sizeof(output)));
	EXPECT_EQ(REPS(2), self->call.status);
	/* DR6 is shared; of the configuration nothing is set. */
	EXPECT_EQ(1, output[0]);
	EXPECT_EQ(0, output[1] | output[2] | output[3]);
}

TEST_F(hvcall, sets_a_register)
{
	struct register_call input = SELF;

	input.set[0].name = VSM_PARTITION_CONFIG;
	input.set[0].value[0] = 1;
	ASSERT_EQ(0, hvcall(&self->call, self->fd, SET_VP_REGISTERS | REPS(1),
			    &input, 48, NULL, 0));
	EXPECT_EQ(REPS(1), self->call.status);
}

TEST_F(hvcall, tells_where_a_repeated_call_stopped)
{
	struct register_call input = SELF;
	uint64_t output[4];

	input.names[0] = VSM_CAPABILITIES;
	input.names[1] = NO_SUCH_REGISTER;
	ASSERT_EQ(0, hvcall(&self->call, self->fd, GET_VP_REGISTERS | REPS(2),
			    &input, 24, output, sizeof(output)));
	EXPECT_EQ(REPS(1) | HV_INVALID_PARAMETER, self->call.status);
}

TEST_F(hvcall, goes_on_where_the_caller_says)
{
	struct register_call input = SELF;
	uint64_t output[4];

	input.names[0] = NO_SUCH_REGISTER;
	input.names[1] = VSM_CAPABILITIES;
	ASSERT_EQ(0, hvcall(&self->call, self->fd,
			    GET_VP_REGISTERS | REPS(2) | DONE(1), &input, 24,
			    output, sizeof(output)));
	EXPECT_EQ(REPS(2), self->call.status);
}

TEST_F(hvcall, passes_the_refusals_of_the_host)
{
	struct register_call input = SELF;
	uint64_t output[2];

	ASSERT_EQ(0, hvcall(&self->call, self->fd, NO_SUCH_CALL, NULL, 0, NULL,
			    0));
	EXPECT_EQ(HV_INVALID_CODE, self->call.status);
	/* A repeated call without repetitions. */
	ASSERT_EQ(0, hvcall(&self->call, self->fd, GET_VP_REGISTERS, &input, 20,
			    output, sizeof(output)));
	EXPECT_EQ(HV_INVALID_INPUT, self->call.status);
}

/* No input means a page of zeros, whatever the previous call left there. */
TEST_F(hvcall, leaves_nothing_of_a_call_to_the_next)
{
	struct register_call input = SELF;
	unsigned char output[4096];
	unsigned int i, cpu;

	input.names[0] = VSM_CAPABILITIES;
	for (cpu = 0; cpu < 2; cpu++) {
		ASSERT_EQ(0, vtl_pin(cpu));
		ASSERT_EQ(0, hvcall(&self->call, self->fd,
				    GET_VP_REGISTERS | REPS(1), &input, 20,
				    output, 16));
		EXPECT_EQ(REPS(1), self->call.status);
		memset(output, 0x55, sizeof(output));
		ASSERT_EQ(0, hvcall(&self->call, self->fd,
				    GET_VP_REGISTERS | REPS(1), NULL, 0, output,
				    sizeof(output)));
		EXPECT_EQ(HV_INVALID_PARTITION_ID, self->call.status);
		for (i = 0; i < sizeof(output); i++)
			ASSERT_EQ(0, output[i]);
	}
}

TEST_F(hvcall, writes_no_more_than_it_was_given_room_for)
{
	struct register_call input = SELF;
	unsigned char output[64];
	unsigned int i;

	memset(output, 0x55, sizeof(output));
	input.names[0] = VSM_CAPABILITIES;
	ASSERT_EQ(0, hvcall(&self->call, self->fd, GET_VP_REGISTERS | REPS(1),
			    &input, 20, output + 3, 5));
	EXPECT_EQ(REPS(1), self->call.status);
	for (i = 0; i < sizeof(output); i++)
		EXPECT_EQ(i == 3 ? 1 : i > 3 && i < 8 ? 0 : 0x55, output[i]);
}

/* Pages of a lower VTL become shared, and then private again. */
TEST_F(hvcall, changes_who_sees_a_page)
{
	struct visibility input = { .partition = ~0ULL };
	uint64_t base, size;
	unsigned int i;

	ASSERT_TRUE(vtl_memory(&base, &size));
	for (i = 0; i < 3; i++)
		input.pages[i] = (base + size) / VTL_PAGE_SIZE - 3 + i;
	for (i = 0; i < 2; i++) {
		input.visibility = i == 0 ? 3 : 0;
		ASSERT_EQ(0, hvcall(&self->call, self->fd,
				    MODIFY_HOST_VISIBILITY | REPS(3), &input,
				    sizeof(input), NULL, 0));
		EXPECT_EQ(REPS(3), self->call.status);
	}
}

TEST_F(hvcall, enables_vtl1_once)
{
	struct {
		uint64_t partition;
		uint32_t word[2];
		unsigned char state[224];
	} input = { .partition = ~0ULL };
	uint64_t expected[] = { 0, HV_VTL_ALREADY_ENABLED };
	unsigned int i;

	for (i = 0; i < 2; i++) {
		input.word[0] = 1;
		input.word[1] = 0;
		ASSERT_EQ(0, hvcall(&self->call, self->fd, ENABLE_PARTITION_VTL,
				    &input, 16, NULL, 0));
		EXPECT_EQ(expected[i], self->call.status);
		input.word[0] = 0;
		input.word[1] = 1;
		ASSERT_EQ(0, hvcall(&self->call, self->fd, ENABLE_VP_VTL,
				    &input, sizeof(input), NULL, 0));
		EXPECT_EQ(expected[i], self->call.status);
	}
}

TEST_F(hvcall, finds_no_device_to_retarget)
{
	uint64_t input[8] = { ~0ULL, 1, 0, 0, 0, 0x50 };

	ASSERT_EQ(0, hvcall(&self->call, self->fd,
			    RETARGET_DEVICE_INTERRUPT | 1 << 17, input,
			    sizeof(input), NULL, 0));
	EXPECT_EQ(HV_INVALID_DEVICE_ID, self->call.status);
}

TEST_F(hvcall, takes_a_page_and_not_a_byte_more)
{
	unsigned char pages[2][4097] = { 0 };

	ASSERT_EQ(0, hvcall(&self->call, self->fd, NO_SUCH_CALL, pages[0], 4096,
			    pages[1], 4096));
	EXPECT_EQ(HV_INVALID_CODE, self->call.status);
	EXPECT_EQ(-1, hvcall(&self->call, self->fd, NO_SUCH_CALL, pages[0],
			     4097, NULL, 0));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(-1, hvcall(&self->call, self->fd, NO_SUCH_CALL, NULL, 0,
			     pages[1], 4097));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(-1, hvcall(&self->call, self->fd, NO_SUCH_CALL, pages[0],
			     ~0UL, pages[1], ~0UL));
	EXPECT_EQ(EINVAL, errno);
}

TEST_F(hvcall, refuses_reserved_bits_of_the_control_word)
{
	unsigned int bit;

	for (bit = 16; bit < 64; bit++) {
		if ((bit >= 17 && bit <= 26) || (bit >= 32 && bit <= 43))
			continue;
		errno = 0;
		EXPECT_EQ(-1,
			  hvcall(&self->call, self->fd,
				 NO_SUCH_CALL | 1ULL << bit, NULL, 0, NULL, 0));
		EXPECT_EQ(EINVAL, errno)
		{
			TH_LOG("bit %u", bit);
		}
	}
	EXPECT_EQ(-1,
		  hvcall(&self->call, self->fd,
			 NO_SUCH_CALL | REPS(2) | DONE(2), NULL, 0, NULL, 0));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(0x5555555555555555, self->call.status);
}

TEST_F(hvcall, refuses_calls_that_are_not_listed)
{
	static const unsigned int codes[] = { 0, 1, POST_MESSAGE, 0x52,
					      0xffff };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(codes); i++) {
		errno = 0;
		EXPECT_EQ(-1, hvcall(&self->call, self->fd, codes[i], NULL, 0,
				     NULL, 0));
		EXPECT_EQ(EPERM, errno);
	}
}

static bool read_refused(uint64_t *refused)
{
	struct mshv_vtl_stats stats = { .head.size = sizeof(stats) };
	int vtl = vtl_create();
	bool good = vtl >= 0 && !ioctl(vtl, MSHV_VTL_STATS, &stats);

	close(vtl);
	*refused = stats.refused_hvcalls;
	return good && stats.head.size == sizeof(stats);
}

/* How often the log has @what, of events of the control plane about refused hypercalls. */
static unsigned int events(const char *what)
{
	static char log[1 << 20];
	int len = klogctl(3 /* all of it */, log, sizeof(log) - 1);
	unsigned int count = 0;
	char *at = log;

	log[len > 0 ? len : 0] = 0;
	while ((at = strstr(at, what))) {
		count++;
		at++;
	}
	return count;
}

/* All are counted; the log is not filled with them. */
TEST_F(hvcall, refused_calls_are_counted_and_logged_within_limits)
{
	uint64_t before, after;
	unsigned int i;

	ASSERT_EQ(0, vtl_pin(0));
	ASSERT_TRUE(read_refused(&before));
	for (i = 0; i < 500; i++)
		EXPECT_EQ(-1, hvcall(&self->call, self->fd, 0x321, NULL, 0,
				     NULL, 0));
	/* Neither a call that was made, nor a malformed one. */
	EXPECT_EQ(0, hvcall(&self->call, self->fd, NO_SUCH_CALL, NULL, 0, NULL,
			    0));
	EXPECT_EQ(-1, hvcall(&self->call, self->fd, NO_SUCH_CALL | 1ULL << 31,
			     NULL, 0, NULL, 0));
	ASSERT_TRUE(read_refused(&after));
	EXPECT_EQ(before + 500, after);
	EXPECT_LE(1, events("op=hvcall_refused control=0x"));
	EXPECT_GT(250, events("op=hvcall_refused control=0x"));
}

/* What the limit suppressed is in the next event that it admits, and only there. */
TEST_F(hvcall, the_next_event_says_how_many_were_suppressed)
{
	const struct timespec limit = { .tv_sec = 6 };
	unsigned int i;

	ASSERT_EQ(0, vtl_pin(0));
	for (i = 0; i < 100; i++)
		EXPECT_EQ(-1, hvcall(&self->call, self->fd, 0x322, NULL, 0,
				     NULL, 0));
	EXPECT_EQ(0, nanosleep(&limit, NULL));
	for (i = 0; i < 2; i++)
		EXPECT_EQ(-1, hvcall(&self->call, self->fd, 0x323, NULL, 0,
				     NULL, 0));
	EXPECT_EQ(1, events("op=hvcall_refused control=0x323 lost="));
	EXPECT_EQ(2, events("op=hvcall_refused control=0x323"));
}

TEST_F(hvcall, is_set_up_once)
{
	EXPECT_EQ(-1, hvcall_allow(self->fd, 64));
	EXPECT_EQ(EINVAL, errno);
	/* The first list stays. */
	EXPECT_EQ(0, hvcall(&self->call, self->fd, NO_SUCH_CALL, NULL, 0, NULL,
			    0));
}

TEST_F(hvcall, faults_on_bad_pointers)
{
	void *bad =
		mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	EXPECT_EQ(-1, ioctl(self->fd, MSHV_HVCALL, bad));
	EXPECT_EQ(EFAULT, errno);
	EXPECT_EQ(-1, ioctl(self->fd, MSHV_HVCALL, NULL));
	EXPECT_EQ(EFAULT, errno);
	EXPECT_EQ(-1,
		  hvcall(&self->call, self->fd, NO_SUCH_CALL, bad, 8, NULL, 0));
	EXPECT_EQ(EFAULT, errno);
	EXPECT_EQ(-1,
		  hvcall(&self->call, self->fd, NO_SUCH_CALL, NULL, 0, bad, 8));
	EXPECT_EQ(EFAULT, errno);
	EXPECT_EQ(-1, ioctl(self->fd, MSHV_CREATE_VTL, NULL));
	EXPECT_EQ(ENOTTY, errno);
}

/* A file without a list, or with one that could not be read. */
TEST(file_without_a_list_may_call_nothing)
{
	struct mshv_vtl_hvcall_setup setup = { .bitmap_array_size = 8193 };
	struct mshv_vtl_hvcall call = { 0 };
	int fd = vtl_open(DEV_MSHV_HVCALL);

	ASSERT_LE(0, fd);
	EXPECT_EQ(-1, hvcall(&call, fd, GET_VP_REGISTERS, NULL, 0, NULL, 0));
	EXPECT_EQ(EPERM, errno);
	EXPECT_EQ(-1, ioctl(fd, MSHV_HVCALL_SETUP, &setup));
	EXPECT_EQ(EINVAL, errno);
	setup.bitmap_array_size = 8;
	EXPECT_EQ(-1, ioctl(fd, MSHV_HVCALL_SETUP, &setup));
	EXPECT_EQ(EFAULT, errno);
	EXPECT_EQ(-1, hvcall(&call, fd, 0, NULL, 0, NULL, 0));
	EXPECT_EQ(EPERM, errno);
	/* It can still get one; codes after its end are not allowed. */
	EXPECT_EQ(0, hvcall_allow(fd, 16));
	EXPECT_EQ(0, hvcall(&call, fd, GET_VP_REGISTERS, NULL, 0, NULL, 0));
	EXPECT_EQ(-1, hvcall(&call, fd, NO_SUCH_CALL, NULL, 0, NULL, 0));
	EXPECT_EQ(EPERM, errno);
	close(fd);
}

/* Callers on the same CPU and on others never see each other's data. */
TEST(callers_at_the_same_time_do_not_mix)
{
	int child, status, i;

	for (child = 0; child < 4; child++) {
		if (fork())
			continue;
		struct register_call input = SELF;
		struct mshv_vtl_hvcall call = { 0 };
		int fd = vtl_open(DEV_MSHV_HVCALL);
		uint64_t output[8];

		hvcall_allow(fd, 64);
		for (i = 0; i < 200; i++) {
			unsigned int reps = child % 4 + 1;
			unsigned int n;

			for (n = 0; n < 4; n++)
				input.names[n] = n < reps ? VSM_CAPABILITIES :
							    NO_SUCH_REGISTER;
			if (hvcall(&call, fd, GET_VP_REGISTERS | REPS(reps),
				   &input, 16 + 4 * reps, output, 16 * reps) ||
			    call.status != REPS(reps))
				_exit(1);
		}
		_exit(0);
	}
	for (child = 0; child < 4; child++) {
		wait(&status);
		EXPECT_EQ(0, status);
	}
}

TEST_HARNESS_MAIN
