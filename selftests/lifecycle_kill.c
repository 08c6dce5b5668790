// SPDX-License-Identifier: GPL-2.0
/*
 * A process that runs a virtual processor ends at any moment: killed, by exit
 * or exec in another thread, or while a child has the same files. Each time the
 * processor must be free for the next user, and nothing may be left behind.
 * A process that does not do what is waited for is reported, thread by thread,
 * with its place in the kernel.
 * LIFECYCLE_ROUNDS is the number of rounds of the last test, 200 if not set;
 * FREE_SLACK_KB is how much more memory a kernel may use that delays freeing.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "vtl_harness.h"
#include "vtl_util.h"

#define REFCNT "/sys/module/mshv_vtl_tdx/refcnt"
#define FILES "/proc/sys/fs/file-nr"
#define FD_VARIABLE "LIFECYCLE_FD"
#define WORKED 42
#define FEW_ROUNDS 25
#define AT_SPIN VTL_PAGE_SIZE
#define LONGEST_US 4000
/* From fork() to somewhere in the guest. */
#define LONGEST_START_US 20000
/* Allowed growth: slab caches fill slowly, and stay filled. */
#define SLACK_KB 512
/* For each single thing that is waited for; commonly it takes milliseconds. */
#define PATIENCE_S 40

/* Shared state of the processes in one round. */
struct words {
	volatile bool is_begun; /* the next thing is a run */
	volatile bool is_inherited; /* the child has the files */
	volatile bool may_go;
	volatile pid_t heir; /* who has inherited them */
	pid_t owner; /* who has started the round */
};

static struct words *words;

/* Two guests in memory, for all rounds: one that halts, after it one that does not. */
static int load_guests(void)
{
	struct vtl_guest guest;
	volatile unsigned char *second;
	size_t i;

	if (vtl_guest_open(&guest, 0) ||
	    vtl_guest_load(&guest, vtl_guest_registers,
			   vtl_guest_registers_end))
		return -1;
	second = vtl_map_low(guest.base + AT_SPIN, VTL_PAGE_SIZE);
	if (second == MAP_FAILED)
		return -1;
	for (i = 0; vtl_guest_spin + i < vtl_guest_spin_end; i++)
		second[i] = vtl_guest_spin[i];
	munmap((void *)second, VTL_PAGE_SIZE);
	vtl_guest_close(&guest);
	return 0;
}

/* Runs the guest that never stops. Does not return. */
static void run_for_ever(bool is_halted)
{
	struct mshv_set_poll_file request = {};
	struct vtl_guest guest;

	if (vtl_guest_open(&guest, 0))
		_exit(1);
	request.fd = eventfd(0, 0);
	if (ioctl(guest.fd, MSHV_SET_POLL_FILE, &request))
		_exit(1);
	guest.run->tdx.l2_enter_guest_state.rip = guest.base + AT_SPIN;
	guest.run->flags = is_halted ? MSHV_VTL_RUN_HALTED : 0;
	words->is_begun = true;
	while (!vtl_enter(&guest))
		;
	_exit(2);
}

/*
 * Returns true if a file of an exited process lets its new owner run the
 * processor.
 */
static bool inherited_file_works(int fd)
{
	struct vtl_guest guest = { .fd = fd };
	int result;

	vtl_pin(0);
	guest.run = vtl_map_page(fd, MSHV_VTL_MMAP_RUN_PAGE, 0);
	if (guest.run == MAP_FAILED)
		return false;
	guest.run->cancel = 1;
	result = vtl_enter(&guest);
	guest.run->cancel = 0;
	return result == -EINTR;
}

/* This program again, in place of the one that was running a guest. */
__attribute__((constructor)) static void after_exec(void)
{
	const char *fd = getenv(FD_VARIABLE);

	if (fd)
		_exit(inherited_file_works(atoi(fd)) ? WORKED : 3);
}

/* Of a process of the round, which is nothing without the one that started it. */
static void wait_for(volatile bool *word)
{
	while (!*word) {
		if (kill(words->owner, 0))
			_exit(6);
		usleep(200);
	}
}

static void sleep_at_random(unsigned int longest_us)
{
	usleep(random() % longest_us);
}

static void *exit_soon(void *argument)
{
	(void)argument;
	wait_for(&words->is_begun);
	sleep_at_random(LONGEST_US);
	_exit(WORKED);
}

static void *exec_soon(void *argument)
{
	char variable[40];
	char *const arguments[] = { "lifecycle_kill", NULL };
	char *const environment[] = { variable, NULL };
	int fd = vtl_create();

	(void)argument;
	snprintf(variable, sizeof(variable), FD_VARIABLE "=%d", fd);
	fcntl(fd, F_SETFD, 0);
	wait_for(&words->is_begun);
	sleep_at_random(LONGEST_US);
	execve("/proc/self/exe", arguments, environment);
	_exit(4);
}

/* The child keeps all files until it is told to exit. */
static void *fork_soon(void *argument)
{
	int fd = vtl_create();

	(void)argument;
	wait_for(&words->is_begun);
	sleep_at_random(LONGEST_US);
	if (!fork()) {
		words->heir = getpid();
		words->is_inherited = true;
		wait_for(&words->may_go);
		_exit(inherited_file_works(fd) ? WORKED : 3);
	}
	return NULL;
}

enum way { KILL, KILL_INSIDE, KILL_HALTED, EXIT, EXEC, FORK, WAYS };

static void child(enum way way, unsigned int seed)
{
	static void *(*const threads[WAYS])(void *) = {
		[EXIT] = exit_soon, [EXEC] = exec_soon, [FORK] = fork_soon
	};
	pthread_t thread;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	srandom(seed);
	if (threads[way] &&
	    vtl_thread_on(&thread, seed % 2, threads[way], NULL))
		_exit(5);
	run_for_ever(way == KILL_HALTED);
}

/* The processor's next user. Returns what is wrong, or an empty text. */
static const char *use_again(void)
{
	volatile struct mshv_tdx_l2_enter_guest_state *state;
	static struct vtl_guest guest;
	int result;

	if (!vtl_guest_open(&guest, 0)) {
		state = &guest.run->tdx.l2_enter_guest_state;
		guest.run->cancel = 0;
		guest.run->flags = 0;
		state->rip = guest.base;
		state->gpr[RDI] = 0;
		result = vtl_run(&guest);
		if (result)
			snprintf(guest.why, sizeof(guest.why), "run: %s",
				 strerror(-result));
		else if (vtl_exit_reason(&guest) != EXIT_HLT)
			snprintf(guest.why, sizeof(guest.why), "exit %u",
				 vtl_exit_reason(&guest));
		else if (state->gpr[RDI] != 0x17)
			snprintf(guest.why, sizeof(guest.why), "registers");
	}
	vtl_guest_close(&guest);
	return guest.why;
}

static bool is_set(pid_t pid, volatile bool *word)
{
	(void)pid;
	return *word;
}

/* Whether a child can be reaped; of no other process is that true. */
static bool has_ended(pid_t pid, volatile bool *word)
{
	siginfo_t info = {};

	(void)word;
	return !waitid(P_PID, pid, &info, WEXITED | WNOHANG | WNOWAIT) &&
	       info.si_pid == pid;
}

/* Waits until something is so; false if it does not become so, or can't any more. */
static bool becomes(bool (*is_so)(pid_t pid, volatile bool *word), pid_t pid,
		    volatile bool *word)
{
	struct timespec now;
	time_t last;

	clock_gettime(CLOCK_MONOTONIC, &now);
	last = now.tv_sec + PATIENCE_S;
	while (now.tv_sec <= last) {
		if (is_so(pid, word))
			return true;
		if (word && has_ended(pid, NULL))
			return is_so(pid, word);
		usleep(200);
		clock_gettime(CLOCK_MONOTONIC, &now);
	}
	return false;
}

static void reap(struct __test_metadata *_metadata, pid_t pid, bool is_killed)
{
	int status = 0;

	if (!becomes(has_ended, pid, NULL)) {
		vtl_name_and_kill(pid);
		if (words->heir && words->heir != pid)
			vtl_name_and_kill(words->heir);
		ASSERT_EQ(0, pid)
		{
			TH_LOG("process %d does not end", pid);
		}
	}
	ASSERT_EQ(pid, waitpid(pid, &status, WNOHANG));
	ASSERT_EQ(is_killed ? SIGKILL : WORKED << 8, status);
}

/* Waits for a word of a process that is to live on. */
static void expect_word(struct __test_metadata *_metadata, pid_t pid,
			volatile bool *word)
{
	int status = 0;

	if (becomes(is_set, pid, word))
		return;
	vtl_name_and_kill(pid);
	waitpid(pid, &status, WNOHANG);
	ASSERT_TRUE(*word)
	{
		TH_LOG("process %d: status %#x", pid, status);
	}
}

static void one_round(struct __test_metadata *_metadata, enum way way,
		      unsigned int seed)
{
	bool is_killed = way != EXIT && way != EXEC;
	pid_t pid;

	memset(words, 0, sizeof(*words));
	words->owner = getpid();
	/* The killer is on the processor's CPU, or on another one. */
	vtl_pin(seed % 2);
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid)
		child(way, seed);
	if (way != KILL)
		expect_word(_metadata, pid, &words->is_begun);
	if (way == FORK)
		expect_word(_metadata, pid, &words->is_inherited);
	if (is_killed) {
		sleep_at_random(way == KILL ? LONGEST_START_US : LONGEST_US);
		kill(pid, SIGKILL);
	}
	reap(_metadata, pid, is_killed);
	ASSERT_STREQ("", use_again());
	if (way == FORK) {
		words->may_go = true;
		reap(_metadata, words->heir, false);
		ASSERT_STREQ("", use_again());
	}
}

static long read_number(const char *path, const char *key)
{
	FILE *file = fopen(path, "r");
	char line[256];
	long number = -1;

	while (file && number < 0 && fgets(line, sizeof(line), file))
		if (!strncmp(line, key, strlen(key)))
			number = atol(line + strlen(key));
	if (file)
		fclose(file);
	return number;
}

/* Slab memory, except what the kernel could reclaim. */
static long objects_kb(void)
{
	static const char *const keys[] = { "SUnreclaim:", "VmallocUsed:",
					    "Percpu:", "PageTables:",
					    "KernelStack:" };
	long sum = 0;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(keys); i++)
		sum += read_number("/proc/meminfo", keys[i]);
	return sum;
}

/* Free pages, with those that each CPU keeps for itself. */
static long free_kb(void)
{
	FILE *file = fopen("/proc/zoneinfo", "r");
	long pages, sum = 0;
	char line[256];

	while (file && fgets(line, sizeof(line), file))
		if (sscanf(line, " nr_free_pages %ld", &pages) == 1 ||
		    sscanf(line, " count: %ld", &pages) == 1)
			sum += pages * (long)(VTL_PAGE_SIZE / 1024);
	if (file)
		fclose(file);
	return sum;
}

/* What an exited task held is released soon, but by other tasks. */
static bool comes_down_to(const char *path, long number)
{
	int tries;

	for (tries = 0; tries < 200; tries++) {
		if (read_number(path, "") <= number)
			return true;
		usleep(10000);
	}
	return false;
}

FIXTURE(lifecycle)
{
	long users, files;
};

FIXTURE_SETUP(lifecycle)
{
	uint64_t base, size;

	if (!vtl_memory(&base, &size))
		SKIP(return, "no vtl0_mem= on the kernel command line");
	if (sysconf(_SC_NPROCESSORS_ONLN) < 2)
		SKIP(return, "needs two CPUs");
	words = mmap(NULL, VTL_PAGE_SIZE, PROT_READ | PROT_WRITE,
		     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, words);
	ASSERT_EQ(0, prctl(PR_SET_CHILD_SUBREAPER, 1));
	ASSERT_EQ(0, load_guests());
	srandom(1);
	self->users = read_number(REFCNT, "");
	self->files = read_number(FILES, "");
	ASSERT_LE(0, self->users);
	ASSERT_LT(0, self->files);
}

FIXTURE_TEARDOWN(lifecycle)
{
	EXPECT_TRUE(comes_down_to(REFCNT, self->users));
	EXPECT_TRUE(comes_down_to(FILES, self->files + FEW_ROUNDS / 2));
}

static void a_few_times(struct __test_metadata *_metadata, enum way way)
{
	unsigned int round;

	for (round = 0; round < FEW_ROUNDS; round++)
		one_round(_metadata, way, round);
}

TEST_F(lifecycle, killed_at_any_moment)
{
	a_few_times(_metadata, KILL);
}

TEST_F(lifecycle, killed_in_the_lower_vtl)
{
	a_few_times(_metadata, KILL_INSIDE);
}

TEST_F(lifecycle, killed_when_halted)
{
	a_few_times(_metadata, KILL_HALTED);
}

TEST_F(lifecycle, another_thread_exits)
{
	a_few_times(_metadata, EXIT);
}

TEST_F(lifecycle, another_thread_executes_a_program_that_goes_on)
{
	a_few_times(_metadata, EXEC);
}

TEST_F(lifecycle, another_thread_forks_a_child_that_goes_on)
{
	a_few_times(_metadata, FORK);
}

TEST_F_TIMEOUT(lifecycle, nothing_is_left, 3600)
{
	const char *wanted = getenv("LIFECYCLE_ROUNDS");
	unsigned int rounds = wanted ? atoi(wanted) : 200, round;
	const char *more = getenv("FREE_SLACK_KB");
	long slack = SLACK_KB + (more ? atol(more) : 0);
	long objects = 0, free = 0;

	/* In the first quarter caches fill. */
	for (round = 0; round < rounds; round++) {
		if (round == rounds / 4) {
			objects = objects_kb();
			free = free_kb();
		}
		one_round(_metadata, round % WAYS, round / WAYS);
	}
	TH_LOG("%u rounds, objects %ld -> %ld kB, free %ld -> %ld kB", rounds,
	       objects, objects_kb(), free, free_kb());
	EXPECT_GE(objects + slack, objects_kb());
	EXPECT_LE(free, free_kb() + slack);
}

TEST_HARNESS_MAIN
