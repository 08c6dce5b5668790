// SPDX-License-Identifier: GPL-2.0
/*
 * Getting a thread out of the lower VTL, or out of a halt, from outside:
 * MSHV_KICK_CPUS and MSHV_SET_POLL_FILE.
 */
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#include "vtl_harness.h"
#include "vtl_util.h"

FIXTURE(kick)
{
	struct vtl_guest guest;
	int event;
};

FIXTURE_SETUP(kick)
{
	uint64_t base, size;

	ASSERT_EQ(0, vtl_catch_alarms());
	if (!vtl_memory(&base, &size))
		SKIP(return, "no vtl0_mem= on the kernel command line");
	self->event = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	ASSERT_LE(0, self->event);
	ASSERT_EQ(0, vtl_guest_open(&self->guest, 0))
	{
		TH_LOG("%s", self->guest.why);
	}
	ASSERT_EQ(0, vtl_guest_load(&self->guest, vtl_guest_spin,
				    vtl_guest_spin_end))
	{
		TH_LOG("%s", self->guest.why);
	}
}

FIXTURE_TEARDOWN(kick)
{
	if (self->guest.run)
		self->guest.run->flags = 0;
	vtl_guest_close(&self->guest);
	close(self->event);
}

static int kick_cpus(int fd, const void *mask, uint64_t len_bits,
		     uint64_t flags)
{
	struct mshv_kick_cpus request = {
		.len_bits = len_bits,
		.cpu_mask = (uintptr_t)mask,
		.flags = flags,
	};

	return ioctl(fd, MSHV_KICK_CPUS, &request) ? -errno : 0;
}

static int set_poll_file(int fd, uint32_t cpu, int32_t file)
{
	struct mshv_set_poll_file request = { .cpu = cpu, .fd = file };

	return ioctl(fd, MSHV_SET_POLL_FILE, &request) ? -errno : 0;
}

static int post(int event)
{
	uint64_t one = 1;

	return write(event, &one, sizeof(one)) == sizeof(one) ? 0 : -errno;
}

static bool drain(int event)
{
	uint64_t count;

	return read(event, &count, sizeof(count)) == sizeof(count);
}

static uint64_t now_ns(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return now.tv_sec * 1000000000ULL + now.tv_nsec;
}

/* What a second thread does 100 ms from now, on any CPU. */
struct action {
	struct vtl_guest *guest;
	int event; /* posted, if not negative */
	uint64_t flags; /* of the kick otherwise */
	int result;
};

static void *act(void *argument)
{
	struct action *action = argument;
	unsigned char mask = 1;

	usleep(100 * 1000);
	if (action->event >= 0)
		action->result = post(action->event);
	else
		action->result =
			kick_cpus(action->guest->fd, &mask, 8, action->flags);
	return NULL;
}

static int enter_while(struct action *action)
{
	pthread_t thread;
	int result;

	action->result = 1;
	if (vtl_thread_anywhere(&thread, act, action))
		return 1;
	result = vtl_enter(action->guest);
	pthread_join(thread, NULL);
	return result;
}

TEST_F(kick, a_halted_processor_sleeps_until_a_signal)
{
	uint64_t wall = now_ns(CLOCK_MONOTONIC);
	long sleeps = vtl_times_slept();

	self->guest.run->flags = MSHV_VTL_RUN_HALTED;
	vtl_alarm_ms(500);
	EXPECT_EQ(-EINTR, vtl_enter(&self->guest));
	sleeps = vtl_times_slept() - sleeps;
	EXPECT_LE(400000000ULL, now_ns(CLOCK_MONOTONIC) - wall);
	EXPECT_LE(1, sleeps);
	EXPECT_GE(10, sleeps);
	/* The lower VTL did not run. */
	EXPECT_EQ(0, self->guest.run->tdx.l2_enter_guest_state.gpr[RAX]);
	EXPECT_EQ(TDX_PENDING_INTERRUPT,
		  self->guest.run->tdx.exit_info.rax >> 32);
}

/*
 * The status tells if there was an entry, which consumes an event to inject. What an
 * earlier exit left behind must be gone: it could be delivered a second time.
 */
TEST_F(kick, a_call_without_an_exit_tells_if_the_guest_ran)
{
	volatile struct mshv_tdx_exit_info *exit =
		&self->guest.run->tdx.exit_info;

	exit->r10 = 0x80000b0d;
	self->guest.run->cancel = 1;
	EXPECT_EQ(-EINTR, vtl_enter(&self->guest));
	EXPECT_EQ((uint64_t)TDX_PENDING_INTERRUPT << 32, exit->rax);
	EXPECT_EQ(0, exit->r10);
	self->guest.run->cancel = 0;
	exit->r10 = 0x80000b0d;
	vtl_alarm_ms(200);
	EXPECT_EQ(-EINTR, vtl_enter(&self->guest));
	EXPECT_NE(0, self->guest.run->tdx.l2_enter_guest_state.gpr[RAX]);
	EXPECT_EQ((uint64_t)TDX_L2_EXIT_PENDING_INTERRUPT << 32 | 1, exit->rax);
	EXPECT_EQ(0, exit->r10);
}

TEST_F(kick, a_cancelled_halt_does_not_begin)
{
	self->guest.run->flags = MSHV_VTL_RUN_HALTED;
	self->guest.run->cancel = 1;
	EXPECT_EQ(-EINTR, vtl_enter(&self->guest));
	self->guest.run->cancel = 0;
	self->guest.run->scan_proxy_irr = 1;
	EXPECT_EQ(-EINTR, vtl_enter(&self->guest));
	self->guest.run->scan_proxy_irr = 0;
}

TEST_F(kick, a_kick_with_cancel_ends_a_halt)
{
	struct action action = { .guest = &self->guest,
				 .event = -1,
				 .flags = MSHV_KICK_CANCEL };

	self->guest.run->flags = MSHV_VTL_RUN_HALTED;
	EXPECT_EQ(-EINTR, enter_while(&action));
	EXPECT_EQ(0, action.result);
	EXPECT_EQ(1, self->guest.run->cancel);
}

TEST_F(kick, a_kick_with_cancel_ends_a_run)
{
	struct action action = { .guest = &self->guest,
				 .event = -1,
				 .flags = MSHV_KICK_CANCEL | MSHV_KICK_WAIT };
	volatile __u64 *count =
		&self->guest.run->tdx.l2_enter_guest_state.gpr[RAX];
	int left = 50;

	/* On a busy machine the kick may come before the guest's first step. */
	do {
		self->guest.run->cancel = 0;
		EXPECT_EQ(-EINTR, enter_while(&action));
		EXPECT_EQ(0, action.result);
		EXPECT_EQ(1, self->guest.run->cancel);
	} while (!*count && --left);
	EXPECT_NE(0, *count);
}

TEST_F(kick, a_kick_alone_lets_the_guest_go_on)
{
	struct action action = { .guest = &self->guest,
				 .event = -1,
				 .flags = MSHV_KICK_WAIT };
	uint64_t wall = now_ns(CLOCK_MONOTONIC);

	vtl_alarm_ms(600);
	EXPECT_EQ(-EINTR, enter_while(&action));
	EXPECT_EQ(0, action.result);
	EXPECT_EQ(0, self->guest.run->cancel);
	EXPECT_LE(500000000ULL, now_ns(CLOCK_MONOTONIC) - wall);
}

TEST_F(kick, nobody_inside_is_nobody_to_wait_for)
{
	unsigned char mask[8] = { 1 };

	EXPECT_EQ(0, kick_cpus(self->guest.fd, mask, 8, MSHV_KICK_WAIT));
	EXPECT_EQ(0, kick_cpus(self->guest.fd, mask, 64, 0));
	EXPECT_EQ(0, kick_cpus(self->guest.fd, NULL, 0, MSHV_KICK_WAIT));
	EXPECT_EQ(0, self->guest.run->cancel);
	EXPECT_EQ(0, kick_cpus(self->guest.fd, mask, 8, MSHV_KICK_CANCEL));
	EXPECT_EQ(1, self->guest.run->cancel);
}

TEST_F(kick, the_length_counts_bits)
{
	unsigned char *pages = mmap(NULL, 2 * VTL_PAGE_SIZE,
				    PROT_READ | PROT_WRITE,
				    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	unsigned char *last = pages + VTL_PAGE_SIZE - 1;

	ASSERT_NE(MAP_FAILED, pages);
	ASSERT_EQ(0, mprotect(pages + VTL_PAGE_SIZE, VTL_PAGE_SIZE, PROT_NONE));
	*last = 1;
	EXPECT_EQ(0, kick_cpus(self->guest.fd, last, 8, 0));
	EXPECT_EQ(0, kick_cpus(self->guest.fd, last, 1, 0));
	/* Bits after the length are ignored. */
	*last = 0xff;
	EXPECT_EQ(0, kick_cpus(self->guest.fd, last, 1, 0));
	/* So are bytes that contain only CPUs that can't exist. */
	ASSERT_GE(8, sysconf(_SC_NPROCESSORS_CONF));
	EXPECT_EQ(0, kick_cpus(self->guest.fd, last, 9, 0));
	EXPECT_EQ(0, kick_cpus(self->guest.fd, last, ~0ULL, 0));
	EXPECT_EQ(-EFAULT, kick_cpus(self->guest.fd, last + 1, 1, 0));
	munmap(pages, 2 * VTL_PAGE_SIZE);
}

TEST_F(kick, wrong_operands_change_nothing)
{
	unsigned char mask = 1;

	EXPECT_EQ(-EINVAL,
		  kick_cpus(self->guest.fd, &mask, 8, MSHV_KICK_CANCEL | 4));
	EXPECT_EQ(-EINVAL, kick_cpus(self->guest.fd, &mask, 8,
				     MSHV_KICK_CANCEL | 1ULL << 63));
	EXPECT_EQ(-EFAULT,
		  kick_cpus(self->guest.fd, NULL, 8, MSHV_KICK_CANCEL));
	EXPECT_EQ(0, self->guest.run->cancel);
}

/* As for sched_setaffinity(): callers need not know the number of CPUs. */
TEST_F(kick, cpus_that_cannot_exist_are_dropped_from_a_mask)
{
	unsigned char mask[8192];

	memset(mask, 0xff, sizeof(mask));
	mask[0] = 0;
	EXPECT_EQ(0, kick_cpus(self->guest.fd, mask, 65536, MSHV_KICK_CANCEL));
	EXPECT_EQ(0, self->guest.run->cancel);
	mask[0] = 1;
	EXPECT_EQ(0, kick_cpus(self->guest.fd, mask, 65536,
			       MSHV_KICK_CANCEL | MSHV_KICK_WAIT));
	EXPECT_EQ(1, self->guest.run->cancel);
	self->guest.run->cancel = 0;
	EXPECT_EQ(0, kick_cpus(self->guest.fd, mask, ~0ULL, MSHV_KICK_CANCEL));
	EXPECT_EQ(1, self->guest.run->cancel);
}

TEST_F(kick, a_poll_file_ends_a_halt)
{
	struct action action = { .guest = &self->guest, .event = self->event };

	ASSERT_EQ(0, set_poll_file(self->guest.fd, 0, self->event));
	EXPECT_EQ(0, self->guest.run->cancel);
	self->guest.run->flags = MSHV_VTL_RUN_HALTED;
	EXPECT_EQ(-EINTR, enter_while(&action));
	EXPECT_EQ(0, action.result);
	EXPECT_EQ(1, self->guest.run->cancel);
}

TEST_F(kick, a_poll_file_ends_a_run)
{
	struct action action = { .guest = &self->guest, .event = self->event };

	ASSERT_EQ(0, set_poll_file(self->guest.fd, 0, self->event));
	EXPECT_EQ(-EINTR, enter_while(&action));
	EXPECT_EQ(0, action.result);
	EXPECT_EQ(1, self->guest.run->cancel);
}

TEST_F(kick, a_file_that_is_ready_cancels_at_once)
{
	ASSERT_EQ(0, post(self->event));
	ASSERT_EQ(0, set_poll_file(self->guest.fd, 0, self->event));
	EXPECT_EQ(1, self->guest.run->cancel);
}

TEST_F(kick, only_the_latest_file_counts)
{
	int second = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);

	ASSERT_EQ(0, set_poll_file(self->guest.fd, 0, self->event));
	ASSERT_EQ(0, set_poll_file(self->guest.fd, 0, second));
	ASSERT_EQ(0, post(self->event));
	EXPECT_EQ(0, self->guest.run->cancel);
	ASSERT_EQ(0, post(second));
	EXPECT_EQ(1, self->guest.run->cancel);
	self->guest.run->cancel = 0;
	ASSERT_EQ(0, set_poll_file(self->guest.fd, 0, -1));
	ASSERT_EQ(0, post(second));
	EXPECT_EQ(0, self->guest.run->cancel);
	/* None there: nothing to do. */
	EXPECT_EQ(0, set_poll_file(self->guest.fd, 0, -1));
	close(second);
}

TEST_F(kick, the_file_may_be_closed_before_and_is_let_go_at_the_end)
{
	int own = vtl_open(DEV_MSHV_VTL);
	int ends[2];

	ASSERT_LE(0, own);
	ASSERT_EQ(0, pipe(ends));
	/* The read end lives on in the registration alone. */
	ASSERT_EQ(0, set_poll_file(own, 0, ends[0]));
	close(ends[0]);
	EXPECT_EQ(1, write(ends[1], "x", 1));
	EXPECT_EQ(1, self->guest.run->cancel);
	self->guest.run->cancel = 0;
	close(own);
	signal(SIGPIPE, SIG_IGN);
	EXPECT_EQ(-1, write(ends[1], "x", 1));
	EXPECT_EQ(EPIPE, errno);
	EXPECT_EQ(0, self->guest.run->cancel);
	close(ends[1]);
}

/* The wait queue of a signalfd belongs to the waiting process, and ends with it. */
TEST_F(kick, a_wait_queue_may_go_before_its_file)
{
	pid_t child;
	int status, round;

	for (round = 0; round < 3; round++) {
		/* With a descriptor table of its own, it would close everything. */
		child = syscall(SYS_clone, CLONE_FILES | SIGCHLD, 0, 0, 0, 0);
		ASSERT_LE(0, child);
		if (!child) {
			sigset_t set;
			int file;

			sigemptyset(&set);
			sigaddset(&set, SIGUSR2);
			sigprocmask(SIG_BLOCK, &set, NULL);
			file = signalfd(-1, &set, 0);
			status = set_poll_file(self->guest.fd, 0, file);
			close(file);
			_exit(status ? 1 : 0);
		}
		ASSERT_EQ(child, waitpid(child, &status, 0));
		ASSERT_EQ(0, status);
		/* A waiter is told that nothing more will come. */
		EXPECT_EQ(1, self->guest.run->cancel);
		self->guest.run->cancel = 0;
	}
	EXPECT_EQ(0, set_poll_file(self->guest.fd, 0, -1));
	EXPECT_EQ(0, self->guest.run->cancel);
}

TEST_F(kick, wrong_poll_files_are_refused_and_the_old_one_stays)
{
	int plain = open("/proc/self/exe", O_RDONLY);

	ASSERT_LE(0, plain);
	ASSERT_EQ(0, set_poll_file(self->guest.fd, 0, self->event));
	EXPECT_EQ(-EINVAL, set_poll_file(self->guest.fd, 0, plain));
	EXPECT_EQ(-EINVAL, set_poll_file(self->guest.fd, 0, self->guest.fd));
	EXPECT_EQ(-EBADF, set_poll_file(self->guest.fd, 0, 1 << 20));
	EXPECT_EQ(-ENXIO, set_poll_file(self->guest.fd, 1 << 20, self->event));
	EXPECT_EQ(-ENXIO, set_poll_file(self->guest.fd, ~0U, -1));
	EXPECT_EQ(0, self->guest.run->cancel);
	ASSERT_EQ(0, post(self->event));
	EXPECT_EQ(1, self->guest.run->cancel);
	close(plain);
}

/*
 * Two threads play ball: each event is posted only after the previous one was
 * taken, at a moment that the other thread can't know. After one lost wake-up
 * the game stops until the alarm.
 */
struct game {
	int event;
	volatile bool is_over;
	volatile uint64_t taken;
	uint64_t posted;
};

static void *throw(void *argument)
{
	struct game *game = argument;
	unsigned int dice = 1;

	while (!game->is_over) {
		if (game->taken != game->posted) {
			if (!(dice & 7))
				sched_yield();
			continue;
		}
		for (dice = dice * 1103515245 + 12345; dice & 0x1f00;
		     dice -= 0x100)
			__asm__ volatile("pause");
		game->posted++;
		post(game->event);
	}
	return NULL;
}

TEST_F(kick, no_wake_up_is_lost)
{
	struct game game = { .event = self->event };
	pthread_t thread;
	uint64_t end = now_ns(CLOCK_MONOTONIC) + 3000000000ULL;
	uint64_t round = 0;

	if (sysconf(_SC_NPROCESSORS_ONLN) < 2)
		SKIP(return, "needs two CPUs");
	ASSERT_EQ(0, set_poll_file(self->guest.fd, 0, self->event));
	vtl_alarm_ms(25000);
	ASSERT_EQ(0, vtl_thread_on(&thread, 1, throw, &game));
	/* Three seconds, or longer where a busy host makes few of them. */
	while (now_ns(CLOCK_MONOTONIC) < end || game.taken <= 100) {
		/* As a client must do: first clear, then check, then wait. */
		self->guest.run->cancel = 0;
		__sync_synchronize();
		if (drain(self->event)) {
			game.taken++;
			continue;
		}
		self->guest.run->flags = round++ & 1 ? MSHV_VTL_RUN_HALTED : 0;
		ASSERT_EQ(-EINTR, vtl_enter(&self->guest));
		ASSERT_EQ(1, self->guest.run->cancel)
		{
			TH_LOG("lost after %llu events",
			       (unsigned long long)game.taken);
		}
	}
	game.is_over = true;
	pthread_join(thread, NULL);
	vtl_alarm_ms(0);
	TH_LOG("%llu events, %llu waits", (unsigned long long)game.taken,
	       (unsigned long long)round);
	EXPECT_LT(100, game.taken);
}

TEST_HARNESS_MAIN
