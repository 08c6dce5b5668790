// SPDX-License-Identifier: GPL-2.0
/*
 * Device interrupts for VTL0 that the host sends to a vector of VTL2:
 * MSHV_MAP_REDIRECTED_DEVICE_INTERRUPT. The host acts through its debug port.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/klog.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vtl_harness.h"
#include "debug_port.h"
#include "irq_guest.h"

#define VECTOR 0x93

FIXTURE(redirected)
{
	struct irq_guest irq;
	uint32_t apic_id[2];
};

FIXTURE_SETUP(redirected)
{
	if (sysconf(_SC_NPROCESSORS_ONLN) < 2)
		SKIP(return, "a second CPU is needed");
	self->apic_id[0] = irq_apic_id(0);
	self->apic_id[1] = irq_apic_id(1);
	ASSERT_EQ(0, irq_guest_open(&self->irq, 0))
	{
		TH_LOG("%s", self->irq.guest.why);
	}
	ASSERT_EQ(0, irq_guest_start(&self->irq, irq_guest_sleep));
}

FIXTURE_TEARDOWN(redirected)
{
	irq_guest_close(&self->irq);
}

/* The vector of VTL2, or the negative errno. */
static int map(int fd, uint32_t vector, uint32_t apic_id)
{
	struct mshv_map_device_intr request = { .vector = vector,
						.apic_id = apic_id,
						.create_mapping = 1 };

	if (ioctl(fd, MSHV_MAP_REDIRECTED_DEVICE_INTERRUPT, &request))
		return request.vector == vector ? -errno : -EPROTO;
	return request.vector;
}

static int unmap(int fd, uint32_t vector, uint32_t apic_id)
{
	struct mshv_map_device_intr request = { .vector = vector,
						.apic_id = apic_id };

	return ioctl(fd, MSHV_MAP_REDIRECTED_DEVICE_INTERRUPT, &request) ?
		       -errno :
		       0;
}

static int interrupt(unsigned int cpu, unsigned int vector)
{
	return debug_port(ACTION_INTERRUPT, cpu << 8 | vector);
}

static bool await_asked(volatile struct mshv_vtl_run *run, unsigned int vector)
{
	int ms;

	for (ms = 0; ms < 10000; ms++) {
		if (run->scan_proxy_irr &&
		    run->proxy_irr[vector / 32] >> vector % 32 & 1)
			return true;
		usleep(1000);
	}
	return false;
}

static void forget(volatile struct mshv_vtl_run *run, unsigned int vector)
{
	run->proxy_irr[vector / 32] &= ~(1U << vector % 32);
	run->scan_proxy_irr = 0;
}

/* How many interrupts of this kind the kernel has. */
static int count_irqs(void)
{
	FILE *file = fopen("/proc/interrupts", "r");
	char line[4096];
	int count = 0;

	while (file && fgets(line, sizeof(line), file))
		count += strstr(line, "mshv_vtl_tdx-redirect") != NULL;
	if (file)
		fclose(file);
	return count;
}

TEST_F(redirected, exceptions_and_what_is_no_vector_or_processor_are_refused)
{
	static const uint32_t vectors[] = { 0,	2,   13,    15, 16,
					    31, 256, 0x193, ~0U };
	int fd = self->irq.guest.fd, before = count_irqs();
	size_t i;

	for (i = 0; i < ARRAY_SIZE(vectors); i++)
		EXPECT_EQ(-EINVAL, map(fd, vectors[i], self->apic_id[0]));
	EXPECT_EQ(-ENXIO, map(fd, VECTOR, 1000));
	EXPECT_EQ(-ENXIO, map(fd, VECTOR, ~0U));
	EXPECT_EQ(before, count_irqs());
}

TEST_F(redirected, only_what_was_mapped_can_be_taken_back)
{
	int fd = self->irq.guest.fd, other = vtl_create(), vector;

	vector = map(fd, VECTOR, self->apic_id[0]);
	ASSERT_LE(16, vector);
	EXPECT_EQ(-EINVAL, unmap(fd, vector + 1, self->apic_id[0]));
	EXPECT_EQ(-EINVAL, unmap(fd, vector, self->apic_id[1]));
	/* By another file. */
	EXPECT_EQ(-EINVAL, unmap(other, vector, self->apic_id[0]));
	EXPECT_EQ(0, unmap(fd, vector, self->apic_id[0]));
	EXPECT_EQ(-EINVAL, unmap(fd, vector, self->apic_id[0]));
	close(other);
}

TEST_F(redirected, an_interrupt_asks_the_processor_it_is_for)
{
	int fd = self->irq.guest.fd, cpu, vector;

	for (cpu = 0; cpu < 2; cpu++) {
		volatile struct mshv_vtl_run *run =
			vtl_map_page(fd, MSHV_VTL_MMAP_RUN_PAGE, cpu);

		ASSERT_NE(MAP_FAILED, (void *)run);
		vector = map(fd, VECTOR + cpu, self->apic_id[cpu]);
		ASSERT_LE(16, vector);
		ASSERT_EQ(0, interrupt(cpu, vector));
		EXPECT_TRUE(await_asked(run, VECTOR + cpu));
		forget(run, VECTOR + cpu);
		/* Again: the end of the first one was signalled to the APIC. */
		ASSERT_EQ(0, interrupt(cpu, vector));
		EXPECT_TRUE(await_asked(run, VECTOR + cpu));
		forget(run, VECTOR + cpu);
		EXPECT_EQ(0, unmap(fd, vector, self->apic_id[cpu]));
		munmap((void *)run, VTL_PAGE_SIZE);
	}
}

/* What the host sends later has no handler, and reaches nothing. */
TEST_F(redirected, a_vector_that_was_given_back_asks_nobody)
{
	volatile struct mshv_vtl_run *run = self->irq.guest.run;
	int vector = map(self->irq.guest.fd, VECTOR, self->apic_id[0]);

	ASSERT_LE(16, vector);
	EXPECT_EQ(0, unmap(self->irq.guest.fd, vector, self->apic_id[0]));
	EXPECT_EQ(0, interrupt(0, vector));
	usleep(20000);
	EXPECT_EQ(0, run->scan_proxy_irr);
	EXPECT_EQ(0, run->proxy_irr[VECTOR / 32]);
}

struct device {
	struct irq_guest *irq;
	int vector;
	unsigned int taken;
};

/* Sends interrupts, each after the previous one was taken. */
static void *play_device(void *argument)
{
	struct device *device = argument;
	volatile uint32_t *taken = &device->irq->data->taken[VECTOR];
	int ms;

	for (device->taken = 0; device->taken < 100; device->taken++) {
		if (interrupt(0, device->vector))
			break;
		for (ms = 0; ms < 10000 && *taken <= device->taken; ms++)
			usleep(1000);
		if (*taken <= device->taken)
			break;
	}
	irq_kick(device->irq, MSHV_KICK_CANCEL);
	return NULL;
}

TEST_F(redirected, a_guest_takes_each_in_one_call)
{
	struct device device = { .irq = &self->irq };
	pthread_t thread;

	self->irq.guest.run->offload_flags = MSHV_VTL_OFFLOAD_INTR_INJECT;
	device.vector = map(self->irq.guest.fd, VECTOR, self->apic_id[0]);
	ASSERT_LE(16, device.vector);
	ASSERT_EQ(0, vtl_thread_on(&thread, 1, play_device, &device));
	EXPECT_EQ(-EINTR, vtl_enter(&self->irq.guest));
	pthread_join(thread, NULL);
	EXPECT_EQ(100, device.taken);
	EXPECT_EQ(100, self->irq.data->taken[VECTOR]);
	EXPECT_EQ(0, self->irq.guest.run->scan_proxy_irr);
}

TEST_F(redirected, mappings_go_with_their_file)
{
	int before = count_irqs(), fd = vtl_create(), i;

	for (i = 0; i < 8; i++)
		ASSERT_LE(16, map(fd, VECTOR + i, self->apic_id[i % 2]));
	EXPECT_EQ(before + 8, count_irqs());
	close(fd);
	EXPECT_EQ(before, count_irqs());
}

/* The kernel's own devices need some of the 200 that a processor has. */
TEST_F(redirected, one_file_takes_64_vectors_of_a_processor)
{
	int before = count_irqs(), fd = vtl_create(), cpu, i, vector = 0;

	for (cpu = 0; cpu < 2; cpu++) {
		for (i = 0; i < 64; i++) {
			vector = map(fd, VECTOR, self->apic_id[cpu]);
			ASSERT_LE(16, vector);
		}
		EXPECT_EQ(-EMFILE, map(fd, VECTOR, self->apic_id[cpu]));
	}
	EXPECT_EQ(before + 128, count_irqs());
	EXPECT_EQ(0, unmap(fd, vector, self->apic_id[1]));
	EXPECT_LE(16, map(fd, VECTOR, self->apic_id[1]));
	close(fd);
	EXPECT_EQ(before, count_irqs());
}

TEST_F(redirected, all_files_together_take_128_vectors_of_a_processor)
{
	int before = count_irqs(), fds[4], file, i, vector, count = 0;

	for (file = 0; file < 4; file++) {
		fds[file] = vtl_create();
		for (i = 0; i < 64; i++) {
			vector = map(fds[file], VECTOR, self->apic_id[1]);
			if (vector < 0)
				break;
			count++;
		}
	}
	EXPECT_EQ(128, count);
	EXPECT_EQ(-ENOSPC, vector);
	/* Another processor has its own limit. */
	EXPECT_LE(16, map(fds[3], VECTOR, self->apic_id[0]));
	for (file = 0; file < 4; file++)
		close(fds[file]);
	EXPECT_EQ(before, count_irqs());
	vector = map(self->irq.guest.fd, VECTOR, self->apic_id[1]);
	EXPECT_LE(16, vector);
	EXPECT_EQ(0, unmap(self->irq.guest.fd, vector, self->apic_id[1]));
}

/* Two threads at the end of what a file may have. */
static void *take_places(void *argument)
{
	struct device *device = argument;
	int i;

	for (i = 0; i < 64; i++)
		if (map(device->vector, VECTOR, 0) >= 0)
			device->taken++;
	return NULL;
}

TEST_F(redirected, threads_of_a_file_share_its_bound)
{
	struct device devices[2] = { 0 };
	pthread_t threads[2];
	int fd = vtl_create(), i;

	ASSERT_EQ(0, self->apic_id[0]);
	for (i = 0; i < 2; i++) {
		devices[i].vector = fd;
		ASSERT_EQ(0, vtl_thread_on(&threads[i], i, take_places,
					   &devices[i]));
	}
	for (i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	EXPECT_EQ(64, devices[0].taken + devices[1].taken);
	close(fd);
}

/* Number of messages about vectors since the last call. */
static int count_complaints(void)
{
	static char log[1 << 20];
	int len = klogctl(3 /* all of it */, log, sizeof(log) - 1);
	int count = 0;
	char *at = log;

	log[len > 0 ? len : 0] = 0;
	while ((at = strstr(at, "unexpected IRQ trap at vector"))) {
		count++;
		at++;
	}
	return count;
}

struct storm {
	volatile int vector;
	volatile bool is_over;
	unsigned int sent;
};

static void *send_all_the_time(void *argument)
{
	struct storm *storm = argument;

	while (!storm->is_over) {
		if (storm->vector && !interrupt(0, storm->vector))
			storm->sent++;
	}
	return NULL;
}

/* The host can't know when a mapping is removed. */
TEST_F(redirected, unmapping_under_fire_is_no_unexpected_trap)
{
	int fd = self->irq.guest.fd, before = count_complaints(), i, vector;
	struct storm storm = { 0 };
	pthread_t thread;

	ASSERT_EQ(0, vtl_thread_on(&thread, 1, send_all_the_time, &storm));
	for (i = 0; i < 300; i++) {
		vector = map(fd, VECTOR, self->apic_id[0]);
		ASSERT_LE(16, vector);
		storm.vector = vector;
		while (!self->irq.guest.run->scan_proxy_irr)
			sched_yield();
		ASSERT_EQ(0, unmap(fd, vector, self->apic_id[0]));
		storm.vector = 0;
		forget(self->irq.guest.run, VECTOR);
	}
	storm.is_over = true;
	pthread_join(thread, NULL);
	EXPECT_LE(300, storm.sent);
	EXPECT_EQ(before, count_complaints());
	forget(self->irq.guest.run, VECTOR);
}

TEST_HARNESS_MAIN
