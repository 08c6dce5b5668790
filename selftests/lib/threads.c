// SPDX-License-Identifier: GPL-2.0
/*
 * Threads of the tests, and their CPUs. Functions return -1 with errno for a
 * failure.
 */
#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "kselftest.h"
#include "vtl_util.h"

int vtl_pin(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	return sched_setaffinity(0, sizeof(set), &set);
}

static void on_alarm(int signal)
{
	(void)signal;
}

uint64_t vtl_now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000ULL + now.tv_nsec / 1000000;
}

int vtl_catch_alarms(void)
{
	struct sigaction action = { .sa_handler = on_alarm };

	return sigaction(SIGALRM, &action, NULL);
}

void vtl_alarm_ms(unsigned int ms)
{
	struct itimerval soon = { .it_value = { ms / 1000, ms % 1000 * 1000 } };

	setitimer(ITIMER_REAL, &soon, NULL);
}

void vtl_alarm_every_ms(unsigned int ms)
{
	const struct timeval period = { ms / 1000, ms % 1000 * 1000 };
	struct itimerval always = { period, period };

	setitimer(ITIMER_REAL, &always, NULL);
}

static int start_thread(pthread_t *thread, const cpu_set_t *cpus,
			void *(*run)(void *argument), void *argument)
{
	pthread_attr_t attributes;
	int result;

	pthread_attr_init(&attributes);
	pthread_attr_setaffinity_np(&attributes, sizeof(*cpus), cpus);
	result = pthread_create(thread, &attributes, run, argument);
	pthread_attr_destroy(&attributes);
	if (!result)
		return 0;
	errno = result;
	return -1;
}

int vtl_thread_on(pthread_t *thread, int cpu, void *(*run)(void *argument),
		  void *argument)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	return start_thread(thread, &set, run, argument);
}

/* How often this thread has given up its CPU voluntarily. */
long vtl_times_slept(void)
{
	struct rusage usage;

	getrusage(RUSAGE_THREAD, &usage);
	return usage.ru_nvcsw;
}

/* A thread inherits its creator's one CPU otherwise. */
int vtl_thread_anywhere(pthread_t *thread, void *(*run)(void *argument),
			void *argument)
{
	cpu_set_t set;
	int cpu;

	CPU_ZERO(&set);
	for (cpu = 0; cpu < sysconf(_SC_NPROCESSORS_ONLN); cpu++)
		CPU_SET(cpu, &set);
	return start_thread(thread, &set, run, argument);
}

static void print_file(pid_t pid, const char *task, const char *name)
{
	char path[320], line[256];
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/task/%s/%s", pid, task, name);
	file = fopen(path, "r");
	if (!file)
		return;
	while (fgets(line, sizeof(line), file))
		printf("# %s: %.*s\n", name, (int)strcspn(line, "\n"), line);
	fclose(file);
}

/* Where a process is in the kernel, thread by thread. It may have been killed before. */
void vtl_name_and_kill(pid_t pid)
{
	static const char *const names[] = { "comm", "stat", "wchan", "stack",
					     "syscall" };
	struct dirent *task;
	char path[32];
	DIR *tasks;
	size_t i;

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	tasks = opendir(path);
	while (tasks && (task = readdir(tasks)))
		for (i = 0; task->d_name[0] != '.' && i < ARRAY_SIZE(names);
		     i++)
			print_file(pid, task->d_name, names[i]);
	if (tasks)
		closedir(tasks);
	fflush(stdout);
	if (pid > 0)
		kill(pid, SIGKILL);
}
