// SPDX-License-Identifier: GPL-2.0
/*
 * kexec_into KERNEL INITRAMFS COMMAND_LINE: starts another kernel in this TD,
 * while a lower VTL runs on each CPU and its paravisor keeps trying to enter
 * again. VM 2 has a virtual-APIC page, in memory that the next kernel will use,
 * and a page of the lower VTLs is shared with the host.
 *
 * kexec_into: checks in that kernel that the page can be accepted and used. Not
 * a test by itself: see scripts/init and left_behind.sh.
 */
#include <fcntl.h>
#include <linux/reboot.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/reboot.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "hvcall.h"

/* The last one, which no guest uses. */
static bool page_to_give(uint64_t *gpa)
{
	uint64_t base, size;

	if (!vtl_memory(&base, &size))
		return false;
	*gpa = base + size - VTL_PAGE_SIZE;
	return true;
}

static int give_page(void)
{
	struct visibility input = { .partition = ~0ULL, .visibility = 3 };
	struct mshv_vtl_hvcall call = {};
	int vtl = vtl_create(), fd = vtl_open(DEV_MSHV_HVCALL);
	uint64_t gpa;

	if (!page_to_give(&gpa) || vtl_accept(vtl, gpa, VTL_PAGE_SIZE) ||
	    hvcall_allow(fd, 64))
		return -1;
	input.pages[0] = gpa / VTL_PAGE_SIZE;
	if (hvcall(&call, fd, MODIFY_HOST_VISIBILITY | REPS(1), &input,
		   sizeof(input), NULL, 0))
		return -1;
	return call.status == REPS(1) ? 0 : -1;
}

/* An access to a page that the host has ends the trust domain. */
static int use_page(void)
{
	volatile unsigned char *memory;
	uint64_t gpa;

	if (!page_to_give(&gpa) || vtl_accept(vtl_create(), gpa, VTL_PAGE_SIZE))
		return 1;
	memory = vtl_map_low(gpa, VTL_PAGE_SIZE);
	if (memory == MAP_FAILED)
		return 1;
	memory[5] = 0x5a;
	return memory[5] != 0x5a;
}

static void *never_leave(void *argument)
{
	int cpu = *(int *)argument;
	struct vtl_guest guest;

	if (vtl_guest_open(&guest, cpu) ||
	    vtl_guest_load(&guest, vtl_guest_spin, vtl_guest_spin_end)) {
		fprintf(stderr, "kexec_into: CPU %d: %s\n", cpu, guest.why);
		return NULL;
	}
	for (;;) {
		guest.run->cancel = 0;
		vtl_enter(&guest);
	}
}

static int give_apic_page(void)
{
	static struct vtl_guest guest;

	return vtl_guest_open(&guest, 0) || vtl_guest_use_vm(&guest, 2) ||
	       vtl_guest_give_apic_page(&guest);
}

int main(int argc, char **argv)
{
	static int cpus[] = { 0, 1 };
	pthread_t threads[2];
	long online = sysconf(_SC_NPROCESSORS_ONLN);
	int kernel, initramfs, i;

	if (argc == 1)
		return use_page();
	if (argc != 4)
		return 2;
	kernel = open(argv[1], O_RDONLY);
	initramfs = open(argv[2], O_RDONLY);
	if (syscall(SYS_kexec_file_load, kernel, initramfs, strlen(argv[3]) + 1,
		    argv[3], 0)) {
		perror("kexec_into: kexec_file_load");
		return 1;
	}
	if (give_apic_page()) {
		fprintf(stderr, "kexec_into: no APIC page for VM 2\n");
		return 1;
	}
	if (give_page()) {
		fprintf(stderr, "kexec_into: the host takes no page\n");
		return 1;
	}
	for (i = 0; i < 2 && i < online; i++)
		if (vtl_thread_on(&threads[i], cpus[i], never_leave, &cpus[i]))
			return 1;
	usleep(200000);
	reboot(LINUX_REBOOT_CMD_KEXEC);
	perror("kexec_into: reboot");
	return 1;
}
