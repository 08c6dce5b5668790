// SPDX-License-Identifier: GPL-2.0
/*
 * Random calls from several threads at once: commands with operands that are
 * nearly right, mappings, closes, forks, signals. Whatever is called, the
 * kernel survives, every call returns, and afterwards a guest runs as before.
 *
 * FUZZ_SECONDS=, FUZZ_SEED= and FUZZ_THREADS= in the environment, which also
 * receives unknown words of the kernel command line. One thread with one seed
 * repeats the same calls. With FUZZ_FAULTS= allocations fail in the middle of
 * calls (fuzz_faults.sh).
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include "fuzz.h"
#include "hvcall.h"
#include "kselftest.h"

#define THREADS_MAX 16
#define SECONDS_TO_RETURN 30
/* Fewer calls show nothing; a slow machine takes longer for them than asked. */
#define CALLS_MIN 1000
#define SECONDS_MORE 50
#define EXCUSED_MAX 10000

static struct fuzz_shared shared;
static struct fuzz_thread threads[THREADS_MAX];
static pthread_t handles[THREADS_MAX];
static int kick_fd = -1; /* where calls are made to fail */
static _Thread_local struct fuzz_thread *this_thread;

static void on_fault(int number, siginfo_t *info, void *context)
{
	const ucontext_t *interrupted = context;
	struct fuzz_thread *thread = this_thread;

	/* Where accesses are made to fail, the kernel's own for the thread may be. */
	if (thread && !thread->touching && thread->is_armed &&
	    thread->excused++ < EXCUSED_MAX)
		return;
	if (!thread || !thread->touching) {
		dprintf(STDOUT_FILENO, "# signal %d: access to %p by %#llx\n",
			number, info->si_addr,
			(unsigned long long)
				interrupted->uc_mcontext.gregs[REG_RIP]);
		signal(number, SIG_DFL);
		return;
	}
	siglongjmp(thread->away, 1);
}

static void on_wake(int number)
{
	(void)number;
}

/*
 * The handler for faults leaves no signal blocked, so that its way out need not save
 * and restore the mask: those calls could be made to fail, too.
 */
static void set_handlers(void)
{
	struct sigaction fault = { .sa_sigaction = on_fault,
				   .sa_flags = SA_SIGINFO | SA_NODEFER };
	struct sigaction wake = { .sa_handler = on_wake };

	sigaction(SIGBUS, &fault, NULL);
	sigaction(SIGSEGV, &fault, NULL);
	sigaction(SIGUSR1, &wake, NULL);
}

static void *run_thread(void *argument)
{
	struct fuzz_thread *thread = argument;

	this_thread = thread;
	fuzz_coverage_open(thread);
	if (!fuzz_faults_open(thread))
		ksft_exit_fail_msg("FUZZ_FAULTS: no fail-nth in /proc\n");
	while (!atomic_load(&shared.stop))
		fuzz_act(thread);
	atomic_fetch_sub(&shared.live, 1);
	return NULL;
}

/* Operands at the end of a mapping, so that reading beyond them faults. */
static bool prepare(struct fuzz_thread *thread, uint64_t seed)
{
	unsigned char *at;

	at = mmap(NULL, FUZZ_OPERAND + 2 * VTL_PAGE_SIZE,
		  PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (at == MAP_FAILED)
		return false;
	thread->operand = at;
	thread->read_only = at + FUZZ_OPERAND + VTL_PAGE_SIZE;
	thread->shared = &shared;
	/* Never zero: xorshift would stay there. */
	thread->random = seed | 1;
	return !mprotect(at + FUZZ_OPERAND, VTL_PAGE_SIZE, PROT_NONE) &&
	       !mprotect(thread->read_only, VTL_PAGE_SIZE, PROT_READ);
}

static void nap(long milliseconds)
{
	struct timespec time = { .tv_sec = milliseconds / 1000,
				 .tv_nsec = milliseconds % 1000 * 1000000 };

	while (nanosleep(&time, &time) && errno == EINTR)
		;
}

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec + time.tv_nsec * 1e-9;
}

/*
 * A thread in a lower VTL that never exits returns only after a signal or a
 * kick. A signal handler must not run while accesses are made to fail, because
 * returning from it is an access.
 */
static void wake_all(unsigned int count)
{
	uint64_t cpus = (1ULL << shared.cpus) - 1;
	struct mshv_kick_cpus kick = { .len_bits = shared.cpus,
				       .cpu_mask = (uintptr_t)&cpus,
				       .flags = MSHV_KICK_CANCEL };
	unsigned int i;

	if (kick_fd >= 0) {
		ioctl(kick_fd, MSHV_KICK_CPUS, &kick);
		return;
	}
	for (i = 0; i < count; i++)
		pthread_kill(handles[i], SIGUSR1);
}

static uint64_t calls_made(unsigned int count)
{
	uint64_t calls = 0;

	while (count--)
		calls += atomic_load(&threads[count].calls);
	return calls;
}

/* Returns true if every call of every thread has returned. */
static bool fuzz(unsigned int count, unsigned long seconds)
{
	double end = now() + seconds;
	unsigned int i;

	atomic_store(&shared.live, count);
	for (i = 0; i < count; i++)
		if (pthread_create(&handles[i], NULL, run_thread, &threads[i]))
			ksft_exit_fail_msg("cannot make a thread\n");
	while (now() < end ||
	       (calls_made(count) < CALLS_MIN && now() < end + SECONDS_MORE)) {
		nap(20);
		wake_all(count);
	}
	atomic_store(&shared.stop, true);
	end = now() + SECONDS_TO_RETURN;
	while (atomic_load(&shared.live) && now() < end) {
		nap(20);
		if (atomic_load(&shared.live))
			wake_all(count);
	}
	if (atomic_load(&shared.live))
		return false;
	for (i = 0; i < count; i++)
		pthread_join(handles[i], NULL);
	return true;
}

static void give_back(unsigned int count)
{
	unsigned int i, j;

	for (i = 0; i < count; i++)
		for (j = 0; j < FUZZ_AREAS; j++)
			if (threads[i].areas[j].at)
				munmap(threads[i].areas[j].at,
				       threads[i].areas[j].size);
	for (i = 0; i < FUZZ_FILES; i++)
		if (shared.files[i] >= 0)
			close(shared.files[i]);
	close(shared.event);
}

/* What the host still has keeps the module. Without Hyper-V it has nothing. */
static void take_back(void)
{
	static struct {
		uint64_t partition, visibility, pages[FUZZ_SHOWN_PAGES];
	} input = { .partition = ~0ULL };
	struct mshv_vtl_hvcall call = {};
	int fd = vtl_open(DEV_MSHV_HVCALL), i;

	if (fd < 0)
		return;
	for (i = 0; i < FUZZ_SHOWN_PAGES; i++)
		input.pages[i] =
			(shared.base + FUZZ_SHOWN_OFFSET) / VTL_PAGE_SIZE + i;
	if (hvcall_allow(fd, 64) ||
	    hvcall(&call, fd, MODIFY_HOST_VISIBILITY | REPS(FUZZ_SHOWN_PAGES),
		   &input, sizeof(input), NULL, 0) ||
	    call.status != REPS(FUZZ_SHOWN_PAGES))
		ksft_print_msg("the host keeps pages: %d, status %llx\n", errno,
			       (unsigned long long)call.status);
	close(fd);
}

static long read_number(const char *path)
{
	FILE *file = fopen(path, "r");
	long number = -1;

	if (!file)
		return -1;
	if (fscanf(file, "%ld", &number) != 1)
		number = -1;
	fclose(file);
	return number;
}

/* Which instructions exit, and how interrupts come: no guest sets these at its start. */
static const uint64_t controls[] = { VMCS32(0x4002), VMCS32(0x400a),
				     VMCS32(0x401c), VMCS32(0x401e) };
static uint64_t controls_before[ARRAY_SIZE(controls)];

static int read_controls(struct vtl_guest *guest)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(controls); i++)
		if (vtl_read_field(guest->fd, TDG_VP_RD, controls[i],
				   &controls_before[i]))
			return -1;
	return 0;
}

static int put_controls_back(struct vtl_guest *guest)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(controls); i++)
		if (vtl_guest_write_field(guest, controls[i],
					  controls_before[i], 0xffffffff))
			return -1;
	return 0;
}

static bool guest_runs(void)
{
	struct vtl_guest guest;
	int result = 1;
	bool good;

	if (!vtl_guest_open(&guest, 0) && !put_controls_back(&guest) &&
	    !vtl_guest_load(&guest, vtl_guest_exits, vtl_guest_exits_end))
		result = vtl_run(&guest);
	good = !result && vtl_exit_reason(&guest) == EXIT_CPUID;
	if (!good)
		ksft_print_msg("guest: %s, result %d, exit %u\n", guest.why,
			       result, guest.run ? vtl_exit_reason(&guest) : 0);
	vtl_guest_close(&guest);
	return good;
}

/* Guests for the virtual processors: one that spins, and one to run afterwards. */
static void load_guests(void)
{
	size_t size = vtl_guest_exits_end - vtl_guest_exits;
	struct vtl_guest guest;
	void *second;
	int cpu;

	for (cpu = 0; cpu < shared.cpus; cpu++) {
		if (vtl_guest_open(&guest, cpu) ||
		    (!cpu && read_controls(&guest)) ||
		    vtl_guest_load(&guest, vtl_guest_spin, vtl_guest_spin_end))
			ksft_exit_fail_msg("%s\n", guest.why);
		vtl_guest_close(&guest);
	}
	second = vtl_map_low(shared.base + VTL_PAGE_SIZE, VTL_PAGE_SIZE);
	if (second == MAP_FAILED)
		ksft_exit_fail_msg("cannot map VTL0's memory\n");
	memcpy(second, vtl_guest_exits, size);
	munmap(second, VTL_PAGE_SIZE);
}

static void start(unsigned int count, unsigned long seed)
{
	unsigned int i;

	set_handlers();
	if (!vtl_memory(&shared.base, &shared.size) ||
	    !vtl_system_ram(&shared.system_ram))
		ksft_exit_skip("no vtl0_mem= on the kernel command line\n");
	shared.cpus = sysconf(_SC_NPROCESSORS_ONLN);
	shared.event = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	load_guests();
	for (i = 0; i < FUZZ_FILES; i++)
		shared.files[i] = i % 4 ? vtl_create() :
					  vtl_open(DEV_MSHV_VTL_LOW);
	for (i = 0; i < count; i++)
		if (!prepare(&threads[i], (seed + i) * 0x9e3779b97f4a7c15ULL))
			ksft_exit_fail_msg("cannot map memory\n");
}

/* Gives in how many calls something was made to fail. */
static uint64_t print_figures(unsigned int count)
{
	uint64_t calls = calls_made(count), refused = 0, buses = 0,
		 children = 0, faults = 0;
	unsigned int i;

	for (i = 0; i < count; i++) {
		refused += threads[i].refused;
		buses += threads[i].buses;
		children += threads[i].children;
		faults += threads[i].faults;
	}
	ksft_print_msg(
		"%lu calls, %lu refused, %lu accesses refused, %lu children\n",
		calls, refused, buses, children);
	ksft_print_msg("%lu made to fail, %lu places of the module reached\n",
		       faults, fuzz_coverage());
	return faults;
}

int main(void)
{
	unsigned long seconds = vtl_setting("FUZZ_SECONDS", 5);
	unsigned long seed = vtl_setting("FUZZ_SEED", 1);
	unsigned long count = vtl_setting("FUZZ_THREADS", 4);
	long users = read_number("/sys/module/mshv_vtl_tdx/refcnt");
	long taint = read_number("/proc/sys/kernel/tainted");
	bool wants_faults = getenv("FUZZ_FAULTS");
	uint64_t faults;
	bool ended;

	if (count < 1 || count > THREADS_MAX)
		ksft_exit_fail_msg("FUZZ_THREADS: 1 to %d\n", THREADS_MAX);
	ksft_print_header();
	ksft_set_plan(5 + wants_faults);
	ksft_print_msg("seed %lu, %lu threads, %lu s\n", seed, count, seconds);
	start(count, seed);
	if (wants_faults)
		kick_fd = vtl_create();
	ended = fuzz(count, seconds);
	faults = print_figures(count);
	if (wants_faults)
		ksft_test_result(faults, "something_was_made_to_fail\n");
	ksft_test_result(calls_made(count) >= CALLS_MIN, "enough_was_called\n");
	ksft_test_result(ended, "every_call_returns\n");
	ksft_test_result(read_number("/proc/sys/kernel/tainted") == taint,
			 "the_kernel_stays_whole\n");
	if (kick_fd >= 0)
		close(kick_fd);
	/* Files that are still in use can't be closed. */
	if (ended) {
		give_back(count);
		take_back();
	}
	ksft_test_result(
		users >= 0 &&
			read_number("/sys/module/mshv_vtl_tdx/refcnt") == users,
		"nothing_is_kept\n");
	ksft_test_result(ended && guest_runs(), "a_guest_runs_afterwards\n");
	ksft_finished();
}
