// SPDX-License-Identifier: GPL-2.0
/*
 * Threads of the tests, and their CPUs. Functions return -1 with errno for a
 * failure.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <sys/resource.h>
#include <unistd.h>

#include "vtl_util.h"

int vtl_pin(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	return sched_setaffinity(0, sizeof(set), &set);
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
