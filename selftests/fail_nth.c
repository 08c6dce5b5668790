// SPDX-License-Identifier: GPL-2.0
/*
 * Repeats each call of the interface while the kernel fails the first
 * allocation or copy in it, then the second, and so on until the call succeeds:
 * so every error path is taken. A call in which something failed reports it and
 * can be repeated, or succeeds without; nothing leaks. Needs a debug kernel.
 */
#include <fcntl.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "fail_calls.h"
#include "vtl_harness.h"

/* More than any call has. */
#define NTH_MAX 400
#define DEBUG "/sys/kernel/debug/"

/* Silent, and for allocations that may wait as well: those are nearly all. */
static const char *const settings[][2] = {
	{ DEBUG "failslab/verbose", "0" },
	{ DEBUG "fail_page_alloc/verbose", "0" },
	{ DEBUG "fail_usercopy/verbose", "0" },
	{ DEBUG "failslab/ignore-gfp-wait", "N" },
	{ DEBUG "fail_page_alloc/ignore-gfp-wait", "N" },
	{ DEBUG "fail_page_alloc/min-order", "0" },
};

static bool make_ready(void)
{
	bool good = true;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(settings); i++) {
		int fd = open(settings[i][0], O_WRONLY);

		good &= fd >= 0 && write(fd, settings[i][1], 1) == 1;
		close(fd);
	}
	return good;
}

FIXTURE(fail)
{
	struct world world;
};

FIXTURE_SETUP(fail)
{
	struct world *world = &self->world;
	uint64_t size;

	world->fail_nth = open("/proc/thread-self/fail-nth", O_RDWR);
	if (world->fail_nth < 0 || !make_ready())
		SKIP(return, "the kernel fails nothing on demand");
	if (!vtl_memory(&world->base, &size) || size < 4 * VTL_LARGE_SIZE)
		SKIP(return,
			   "no vtl0_mem= of 8 MiB on the kernel command line");
	ASSERT_EQ(0, vtl_guest_open(&world->guest, 0));
	ASSERT_EQ(0, vtl_guest_load(&world->guest, vtl_guest_registers,
				    vtl_guest_registers_end));
	world->mshv = vtl_open(DEV_MSHV);
	world->low = vtl_open(DEV_MSHV_VTL_LOW);
	world->sint = vtl_open(DEV_MSHV_SINT);
	world->event = eventfd(0, EFD_NONBLOCK);
	world->image_size = 16 * VTL_PAGE_SIZE;
	world->image = mmap(NULL, world->image_size, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, world->image);
}

FIXTURE_TEARDOWN(fail)
{
	struct world *world = &self->world;

	vtl_guest_close(&world->guest);
	close(world->mshv);
	close(world->low);
	if (world->sint >= 0)
		close(world->sint);
	close(world->event);
	munmap(world->image, world->image_size);
	close(world->fail_nth);
}

/* The write itself copies, and may be what fails; then it is the last that does. */
static void arm(const struct world *world, unsigned int nth)
{
	char text[8];
	int length = snprintf(text, sizeof(text), "%u\n", nth);

	while (pwrite(world->fail_nth, text, length, 0) < 0 && errno == EFAULT)
		;
}

/* Returns true if something was made to fail since arm(). */
static bool has_failed(const struct world *world)
{
	char text[16] = "";
	bool failed;

	failed = pread(world->fail_nth, text, sizeof(text) - 1, 0) > 0 &&
		 atoi(text) == 0;
	arm(world, 0);
	return failed;
}

static bool is_said_so(int result)
{
	return !result || result == -ENOMEM || result == -EFAULT ||
	       result == -ENOSPC || result == -EINTR || result == -EBUSY;
}

TEST_F(fail, each_call_passes_once_nothing_fails_in_it)
{
	struct world *world = &self->world;
	unsigned int nth, failed = 0;
	size_t i;

	for (i = 0; i < fail_call_count; i++) {
		int result;

		if (fail_calls[i].needs_hyperv && world->sint < 0)
			continue;
		ASSERT_EQ(0, fail_calls[i].call(world))
		{
			TH_LOG("%s", fail_calls[i].name);
		}
		for (nth = 1; nth < NTH_MAX; nth++) {
			arm(world, nth);
			result = fail_calls[i].call(world);
			if (!has_failed(world))
				break;
			failed++;
			EXPECT_TRUE(is_said_so(result))
			{
				TH_LOG("%s, %u: %d", fail_calls[i].name, nth,
				       result);
			}
		}
		EXPECT_LT(nth, NTH_MAX)
		{
			TH_LOG("%s never passes", fail_calls[i].name);
		}
		EXPECT_EQ(0, result)
		{
			TH_LOG("%s, %u: %d", fail_calls[i].name, nth, result);
		}
		/*
		 * The failed calls have left nothing that prevents a
		 * successful one.
		 */
		EXPECT_EQ(0, fail_calls[i].call(world))
		{
			TH_LOG("%s afterwards", fail_calls[i].name);
		}
	}
	/* Most calls have a copy at least. */
	EXPECT_LT(fail_call_count, failed);
	TH_LOG("%u made to fail", failed);
}

TEST_HARNESS_MAIN
