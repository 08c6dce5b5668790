// SPDX-License-Identifier: GPL-2.0
/*
 * Memory of the fuzzer's calls: mappings of every kind, accesses to them, and
 * the contents of run pages.
 */
#include <setjmp.h>
#include <string.h>
#include <sys/mman.h>

#include "fuzz.h"
#include "kernel_access.h"
#include "vtl_util.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static uint64_t map_offset(struct fuzz_thread *thread)
{
	static const unsigned int kinds[] = {
		MSHV_VTL_MMAP_RUN_PAGE,	      MSHV_VTL_MMAP_VAPIC_PAGE,
		MSHV_VTL_MMAP_SWITCH_PAGE,    MSHV_VTL_MMAP_AUDIT_RING,
		MSHV_VTL_MMAP_LEAVES,	      MSHV_VTL_MMAP_CONTROL_RING,
		MSHV_VTL_MMAP_CONTROL_LEAVES, 1
	};
	unsigned int cpu = fuzz_below(thread, thread->shared->cpus + 1);

	switch (fuzz_below(thread, 4)) {
	case 0:
		return fuzz_gpa(thread);
	case 1:
		return fuzz_gpa(thread) | MSHV_VTL_LOW_SHARED;
	default:
		return VTL_PAGE_SIZE *
		       MSHV_VTL_MMAP_PGOFF(
			       kinds[fuzz_below(thread, COUNT(kinds))], cpu);
	}
}

/*
 * Maps at an address where 2 MiB entries fit, that is, with the same offset
 * from such a border as the memory. Reserves address space for it first, and
 * unmaps what is not needed.
 */
static void *map_aligned(size_t size, int protection, int kind, int file,
			 off_t offset)
{
	size_t space_size = size + VTL_LARGE_SIZE;
	unsigned char *space = mmap(NULL, space_size, PROT_NONE,
				    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
				    -1, 0);
	unsigned char *at;

	if (space == MAP_FAILED)
		return MAP_FAILED;
	at = space + ((size_t)offset - (size_t)space) % VTL_LARGE_SIZE;
	if (mmap(at, size, protection, kind | MAP_FIXED, file, offset) != at) {
		munmap(space, space_size);
		return MAP_FAILED;
	}
	if (at != space)
		munmap(space, at - space);
	munmap(at + size, space + VTL_LARGE_SIZE - at);
	return at;
}

void fuzz_map(struct fuzz_thread *thread, int file)
{
	static const size_t pages[] = { 1,  1,	 1,    2,	  16,
					24, 512, 1024, 1ULL << 26 };
	struct fuzz_area *area = &thread->areas[fuzz_below(thread, FUZZ_AREAS)];
	size_t size = VTL_PAGE_SIZE * pages[fuzz_below(thread, COUNT(pages))];
	int protection = fuzz_once_in(thread, 4) ? fuzz_below(thread, 8) :
						   PROT_READ | PROT_WRITE;
	int kind = fuzz_once_in(thread, 8) ? MAP_PRIVATE : MAP_SHARED;
	off_t offset = (off_t)(map_offset(thread) & -VTL_PAGE_SIZE);
	void *at;

	/* What can't be unmapped now would stay mapped. */
	if (size > VTL_LARGE_SIZE)
		fuzz_faults_disarm(thread);
	at = size > VTL_LARGE_SIZE ?
		     map_aligned(size, protection, kind, file, offset) :
		     mmap(NULL, size, protection, kind, file, offset);
	if (at == MAP_FAILED) {
		thread->refused++;
		return;
	}
	fuzz_faults_disarm(thread);
	if (area->at)
		munmap(area->at, area->size);
	area->at = at;
	area->size = size;
}

static unsigned char *random_page(struct fuzz_thread *thread,
				  const struct fuzz_area *area)
{
	size_t pages = area->size / VTL_PAGE_SIZE;

	/* Of a large one mostly the beginning, where others are, too. */
	if (pages > 1024 && !fuzz_once_in(thread, 8))
		pages = 1024;
	return area->at + fuzz_below(thread, pages) * VTL_PAGE_SIZE;
}

void fuzz_unmap(struct fuzz_thread *thread)
{
	struct fuzz_area *area = &thread->areas[fuzz_below(thread, FUZZ_AREAS)];
	size_t part;

	if (!area->at)
		return;
	fuzz_faults_disarm(thread);
	/*
	 * Sometimes one page in the middle, for which no other mapping can be
	 * placed.
	 */
	if (area->size > VTL_PAGE_SIZE && fuzz_once_in(thread, 4)) {
		mmap(random_page(thread, area), VTL_PAGE_SIZE, PROT_NONE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
		return;
	}
	/* A part first, so that areas are split. */
	part = area->size > VTL_PAGE_SIZE && fuzz_once_in(thread, 2) ?
		       area->size / 2 & -VTL_PAGE_SIZE :
		       area->size;
	munmap(area->at, part);
	area->at += part;
	area->size -= part;
	if (!area->size)
		area->at = NULL;
}

/*
 * Reads or writes somewhere in a mapping; a fault returns to the caller.
 * Accesses are not made to fail here: a failure on the kernel's way into the
 * handler would be fatal.
 */
static void touch_at(struct fuzz_thread *thread, volatile uint64_t *word)
{
	fuzz_faults_disarm(thread);
	if (sigsetjmp(thread->away, 0)) {
		thread->buses++;
	} else {
		thread->touching = 1;
		if (fuzz_once_in(thread, 2))
			*word = fuzz_value(thread);
		else
			(void)*word;
	}
	thread->touching = 0;
}

void fuzz_touch(struct fuzz_thread *thread)
{
	const struct fuzz_area *area =
		&thread->areas[fuzz_below(thread, FUZZ_AREAS)];
	unsigned char *page;

	if (!area->at)
		return;
	page = random_page(thread, area);
	switch (fuzz_below(thread, 8)) {
	case 0:
		madvise(area->at, area->size, fuzz_below(thread, 26));
		break;
	case 1:
		mprotect(area->at, VTL_PAGE_SIZE, fuzz_below(thread, 8));
		break;
	case 2:
		mprotect(page, VTL_PAGE_SIZE, fuzz_below(thread, 8));
		break;
	case 3:
		madvise(page, VTL_PAGE_SIZE, fuzz_below(thread, 26));
		break;
	default:
		touch_at(thread,
			 (volatile uint64_t *)(page +
					       fuzz_below(thread,
							  VTL_PAGE_SIZE / 8) *
						       8));
		break;
	}
}

/* Makes the kernel itself access a page, and ignores the result. */
void fuzz_access(struct fuzz_thread *thread)
{
	_Alignas(VTL_PAGE_SIZE) unsigned char copy[VTL_PAGE_SIZE];
	const struct fuzz_area *area =
		&thread->areas[fuzz_below(thread, FUZZ_AREAS)];
	const struct kernel_access *access =
		&kernel_accesses[fuzz_below(thread, kernel_access_count)];

	if (!area->at || access->is_slow)
		return;
	memset(copy, fuzz_below(thread, 256), sizeof(copy));
	if (access->act(random_page(thread, area), copy))
		thread->refused++;
}

/*
 * The run page is read at the next entry: this sets it up for the guest that
 * spins, or the one that exits immediately, with one change.
 */
static void write_run_page(struct fuzz_thread *thread,
			   volatile struct mshv_vtl_run *run)
{
	volatile struct mshv_tdx_vp_context *tdx = &run->tdx;

	run->cancel = 0;
	run->scan_proxy_irr = 0;
	run->flags = 0;
	run->offload_flags = 0;
	run->enter_mode = fuzz_value(thread);
	tdx->entry_rcx = 1ULL << MSHV_TDX_ENTRY_VM_SHIFT |
			 fuzz_below(thread, 4);
	tdx->l2_enter_guest_state.rip =
		thread->shared->base + VTL_PAGE_SIZE * fuzz_below(thread, 2);
	tdx->l2_enter_guest_state.rflags = 2;
	tdx->vp_state.msr_lstar = 0;
	tdx->vp_state.msr_xss = 0;
	tdx->vp_state.flags = 0;
	switch (fuzz_below(thread, 16)) {
	case 0:
		run->cancel = 1;
		break;
	case 1:
		run->scan_proxy_irr = 1;
		break;
	case 2:
		run->flags = fuzz_once_in(thread, 2) ? MSHV_VTL_RUN_HALTED :
						       fuzz_value(thread);
		break;
	case 3:
		run->offload_flags = fuzz_value(thread);
		break;
	case 4:
		tdx->entry_rcx = fuzz_value(thread);
		break;
	case 5:
		tdx->vp_state.msr_lstar = fuzz_value(thread);
		break;
	case 6:
		tdx->vp_state.msr_xss = fuzz_value(thread);
		break;
	case 7:
		tdx->vp_state.flags = fuzz_value(thread);
		break;
	case 8:
		tdx->l2_enter_guest_state.rflags = fuzz_value(thread);
		break;
	case 9:
		tdx->l2_tsc_deadline.deadline = fuzz_value(thread);
		tdx->l2_tsc_deadline.update = 1;
		break;
	default:
		break;
	}
}

/*
 * Now and then the whole virtual processor is made good again: what others write
 * into its fields keeps it from running. The file may be another one by now, and
 * refuse every access.
 */
void fuzz_change_run_page(struct fuzz_thread *thread)
{
	struct vtl_guest guest = { .fd = fuzz_file(thread),
				   .cpu = fuzz_below(thread,
						     thread->shared->cpus),
				   .base = thread->shared->base };
	void *run;

	run = vtl_map_page(guest.fd, MSHV_VTL_MMAP_RUN_PAGE, guest.cpu);
	if (run == MAP_FAILED)
		return;
	guest.run = run;
	vtl_pin(guest.cpu);
	fuzz_faults_disarm(thread);
	if (sigsetjmp(thread->away, 0)) {
		thread->buses++;
	} else {
		thread->touching = 1;
		if (!thread->parent && fuzz_once_in(thread, 6))
			vtl_guest_start(&guest);
		write_run_page(thread, run);
	}
	thread->touching = 0;
	munmap(run, VTL_PAGE_SIZE);
}
