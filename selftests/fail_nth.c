// SPDX-License-Identifier: GPL-2.0
/*
 * Each call of the interface, again and again, while the kernel fails the first
 * allocation or copy in it, then the second, until it passes: every way out that a
 * call has. A call that something failed in says so and can be made again, or does
 * without; nothing is kept. Needs a debug kernel.
 */
#include <fcntl.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "vtl_harness.h"
#include "vtl_util.h"

/* More than any call has. */
#define NTH_MAX 400
#define DEBUG "/sys/kernel/debug/"

struct world {
	struct vtl_guest guest;
	int mshv, low, hvcall, sint, event, fail_nth;
	uint64_t base;
	void *image;
	size_t image_size;
};

/* 0, or the negative errno. What a call makes, it takes back. */
typedef int (*call_fn)(struct world *world);

static int answer(int result)
{
	return result < 0 ? -errno : 0;
}

static int open_nodes(struct world *world)
{
	static const char *const nodes[] = { DEV_MSHV, DEV_MSHV_VTL,
					     DEV_MSHV_VTL_LOW };
	size_t i;

	(void)world;
	for (i = 0; i < ARRAY_SIZE(nodes); i++) {
		int fd = open(nodes[i], O_RDWR);

		if (fd < 0)
			return -errno;
		close(fd);
	}
	return 0;
}

static int check_extension(struct world *world)
{
	uint32_t number = MSHV_CAP_INFO;

	return answer(ioctl(world->mshv, MSHV_CHECK_EXTENSION, &number));
}

static int create(struct world *world)
{
	int fd = ioctl(world->mshv, MSHV_CREATE_VTL, NULL);

	if (fd < 0)
		return -errno;
	close(fd);
	return 0;
}

static int info(struct world *world)
{
	struct mshv_vtl_info head = { .head.size = sizeof(head) };

	return answer(ioctl(world->mshv, MSHV_VTL_INFO, &head));
}

static int policy(struct world *world)
{
	struct mshv_vtl_policy line = { .head.size = sizeof(line) };

	return answer(ioctl(world->mshv, MSHV_VTL_POLICY, &line));
}

static int stats(struct world *world)
{
	struct mshv_vtl_stats all = { .head.size = sizeof(all) };

	return answer(ioctl(world->guest.fd, MSHV_VTL_STATS, &all));
}

static int run(struct world *world)
{
	world->guest.run->tdx.l2_enter_guest_state.rip = world->base;
	return vtl_run(&world->guest);
}

static int run_and_flush(struct world *world)
{
	world->guest.run->tdx.vp_state.flags = MSHV_TDX_VP_WBINVD;
	return run(world);
}

static int registers(struct world *world)
{
	struct mshv_register list[2] = { { .name = MSHV_REGISTER_DR0 },
					 { .name = MSHV_REGISTER_DR1 } };
	struct mshv_vp_registers head = { .count = 2,
					  .registers = (uintptr_t)list };

	if (ioctl(world->guest.fd, MSHV_GET_VP_REGISTERS, &head))
		return -errno;
	return answer(ioctl(world->guest.fd, MSHV_SET_VP_REGISTERS, &head));
}

static int xsave(struct world *world, unsigned long command)
{
	struct mshv_vtl_xsave ask = { 0 };

	if (ioctl(world->guest.fd, MSHV_VTL_XSAVE_GET, &ask))
		return -errno;
	ask.image = (uintptr_t)world->image;
	if (ask.size > world->image_size)
		return -E2BIG;
	if (command == MSHV_VTL_XSAVE_GET)
		ask.xfeatures = 0;
	return answer(ioctl(world->guest.fd, command, &ask));
}

static int get_xsave(struct world *world)
{
	return xsave(world, MSHV_VTL_XSAVE_GET);
}

static int set_xsave(struct world *world)
{
	return xsave(world, MSHV_VTL_XSAVE_SET);
}

/* Set, and taken away. */
static int poll_file(struct world *world)
{
	struct mshv_set_poll_file call = { .cpu = 0, .fd = world->event };
	int result;

	result = answer(ioctl(world->guest.fd, MSHV_SET_POLL_FILE, &call));
	call.fd = -1;
	return answer(ioctl(world->guest.fd, MSHV_SET_POLL_FILE, &call)) ?:
									   result;
}

static int kick(struct world *world)
{
	uint64_t mask = 1;
	struct mshv_kick_cpus call = { .len_bits = 1,
				       .cpu_mask = (uintptr_t)&mask,
				       .flags = MSHV_KICK_WAIT };

	return answer(ioctl(world->guest.fd, MSHV_KICK_CPUS, &call));
}

static int tdcall(struct world *world, struct mshv_tdcall call)
{
	int result = ioctl(world->guest.fd, MSHV_TDCALL, &call);

	if (result)
		return -errno;
	return vtl_status(&call) == TDX_SUCCESS ? 0 : -ENOMEM;
}

static int read_field(struct world *world)
{
	return tdcall(world, (struct mshv_tdcall){ .rax = TDG_VP_RD,
						   .rdx = VMCS_GUEST_CR3 });
}

static int write_field(struct world *world)
{
	return tdcall(world, (struct mshv_tdcall){ .rax = TDG_VP_WR,
						   .rdx = VMCS32(0x4002),
						   .r8 = 0xb5226dfa,
						   .r9 = 4 });
}

/* An APIC page of VM 2, which the kernel keeps a list of. */
static int write_apic_page(struct world *world)
{
	struct mshv_tdcall call = {
		.rax = TDG_VP_WR,
		.rdx = VMCS_VIRTUAL_APIC_PAGE + (8ULL << 56),
		.r8 = world->base + 3 * VTL_PAGE_SIZE,
		.r9 = ~0ULL,
	};

	return tdcall(world, call);
}

static int refused_tdcall(struct world *world)
{
	struct mshv_tdcall call = { .rax = 25 };

	return answer(ioctl(world->guest.fd, MSHV_TDCALL, &call));
}

static int add_memory(struct world *world)
{
	struct mshv_vtl_ram_disposition range = {
		.start_pfn = (world->base + VTL_LARGE_SIZE) / VTL_PAGE_SIZE,
		.last_pfn = (world->base + 2 * VTL_LARGE_SIZE) / VTL_PAGE_SIZE,
	};

	return answer(ioctl(world->guest.fd, MSHV_ADD_VTL0_MEMORY, &range));
}

static int cr4_fixed1(struct world *world)
{
	uint64_t value;

	return answer(ioctl(world->guest.fd, MSHV_READ_VMX_CR4_FIXED1, &value));
}

static int redirect(struct world *world)
{
	struct mshv_map_device_intr map = { .vector = 0x41,
					    .create_mapping = 1 };
	int fd = vtl_create(), result;

	(void)world;
	if (fd < 0)
		return -errno;
	result = answer(ioctl(fd, MSHV_MAP_REDIRECTED_DEVICE_INTERRUPT, &map));
	/* It goes with its file. */
	close(fd);
	return result;
}

static int map_page(int fd, uint64_t offset, size_t size)
{
	void *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
			(off_t)offset);

	if (at == MAP_FAILED)
		return -errno;
	munmap(at, size);
	return 0;
}

static int map_run_page(struct world *world)
{
	uint64_t page = MSHV_VTL_MMAP_PGOFF(MSHV_VTL_MMAP_RUN_PAGE, 0);

	return map_page(world->guest.fd, page * VTL_PAGE_SIZE, VTL_PAGE_SIZE);
}

static int map_memory(struct world *world)
{
	return map_page(world->low, world->base, VTL_LARGE_SIZE);
}

static int hypercall(struct world *world)
{
	unsigned char list[12] = { [0x5d / 8] = 1 << 0x5d % 8 };
	struct mshv_vtl_hvcall_setup setup = {
		.bitmap_array_size = sizeof(list),
		.allow_bitmap_ptr = (uintptr_t)list,
	};
	struct {
		uint32_t connection;
		uint16_t flag, zero;
	} event = { 4, 0, 0 };
	struct mshv_vtl_hvcall call = { .control = 0x5d,
					.input_size = sizeof(event),
					.input_ptr = (uintptr_t)&event };
	int fd = open(DEV_MSHV_HVCALL, O_RDWR), result;

	(void)world;
	if (fd < 0)
		return -errno;
	result = ioctl(fd, MSHV_HVCALL_SETUP, &setup) ||
				 ioctl(fd, MSHV_HVCALL, &call) ?
			 -errno :
			 0;
	close(fd);
	return result;
}

static int signal_event(struct world *world)
{
	struct mshv_vtl_signal_event call = { .connection_id = 4 };

	return answer(ioctl(world->sint, MSHV_SINT_SIGNAL_EVENT, &call));
}

static int post_message(struct world *world)
{
	struct mshv_vtl_sint_post_msg call = { .message_type = 1,
					       .connection_id = 4,
					       .payload_size = 8,
					       .payload_ptr =
						       (uintptr_t)&call };

	return answer(ioctl(world->sint, MSHV_SINT_POST_MESSAGE, &call));
}

static int set_eventfd(struct world *world)
{
	struct mshv_vtl_set_eventfd call = { .fd = world->event, .flag = 9 };

	return answer(ioctl(world->sint, MSHV_SINT_SET_EVENTFD, &call));
}

static int pause_stream(struct world *world)
{
	struct mshv_sint_mask call = { .mask = 1 };

	return answer(
		ioctl(world->sint, MSHV_SINT_PAUSE_MESSAGE_STREAM, &call));
}

enum needs { ANY, HYPERV };

static const struct {
	const char *name;
	call_fn call;
	enum needs needs;
} calls[] = {
	{ "open", open_nodes, ANY },
	{ "CHECK_EXTENSION", check_extension, ANY },
	{ "CREATE_VTL", create, ANY },
	{ "VTL_INFO", info, ANY },
	{ "VTL_POLICY", policy, ANY },
	{ "VTL_STATS", stats, ANY },
	{ "RETURN_TO_LOWER_VTL", run, ANY },
	{ "RETURN_TO_LOWER_VTL with a flush", run_and_flush, ANY },
	{ "GET_VP_REGISTERS, SET_VP_REGISTERS", registers, ANY },
	{ "VTL_XSAVE_GET", get_xsave, ANY },
	{ "VTL_XSAVE_SET", set_xsave, ANY },
	{ "SET_POLL_FILE", poll_file, ANY },
	{ "KICK_CPUS", kick, ANY },
	{ "TDCALL VP.RD", read_field, ANY },
	{ "TDCALL VP.WR", write_field, ANY },
	{ "TDCALL VP.WR of an APIC page", write_apic_page, ANY },
	{ "TDCALL, refused", refused_tdcall, ANY },
	{ "ADD_VTL0_MEMORY", add_memory, ANY },
	{ "READ_VMX_CR4_FIXED1", cr4_fixed1, ANY },
	{ "MAP_REDIRECTED_DEVICE_INTERRUPT", redirect, ANY },
	{ "mmap of a run page", map_run_page, ANY },
	{ "mmap of memory", map_memory, ANY },
	{ "HVCALL", hypercall, HYPERV },
	{ "SINT_SIGNAL_EVENT", signal_event, HYPERV },
	{ "SINT_POST_MESSAGE", post_message, HYPERV },
	{ "SINT_SET_EVENTFD", set_eventfd, HYPERV },
	{ "SINT_PAUSE_MESSAGE_STREAM", pause_stream, HYPERV },
};

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

	for (i = 0; i < ARRAY_SIZE(calls); i++) {
		int result;

		if (calls[i].needs == HYPERV && world->sint < 0)
			continue;
		ASSERT_EQ(0, calls[i].call(world))
		{
			TH_LOG("%s", calls[i].name);
		}
		for (nth = 1; nth < NTH_MAX; nth++) {
			arm(world, nth);
			result = calls[i].call(world);
			if (!has_failed(world))
				break;
			failed++;
			EXPECT_TRUE(is_said_so(result))
			{
				TH_LOG("%s, %u: %d", calls[i].name, nth,
				       result);
			}
		}
		EXPECT_LT(nth, NTH_MAX)
		{
			TH_LOG("%s never passes", calls[i].name);
		}
		EXPECT_EQ(0, result)
		{
			TH_LOG("%s, %u: %d", calls[i].name, nth, result);
		}
		/* Nothing of the failed ones has stayed in the way. */
		EXPECT_EQ(0, calls[i].call(world))
		{
			TH_LOG("%s afterwards", calls[i].name);
		}
	}
	/* Most calls have a copy at least. */
	EXPECT_LT(ARRAY_SIZE(calls), failed);
	TH_LOG("%u made to fail", failed);
}

TEST_HARNESS_MAIN
