/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A VP whose XSAVE image is in its initial state, and images for it: for the tests of
 * MSHV_VTL_XSAVE_GET and MSHV_VTL_XSAVE_SET. Needs vtl_harness.h before.
 */
#ifndef XSAVE_FIXTURE_H
#define XSAVE_FIXTURE_H

#include <cpuid.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "vtl_util.h"

#define XSTATE_BV 64 /* as all that follow: words of 8 bytes */
#define XCOMP_BV 65
#define HEADER_END 72
#define MXCSR_BYTE 24
#define XMM_BYTE 160
#define BIT_AVX (1ULL << 2)
#define BIT_PKRU (1ULL << 9)

/* What vtl_guest_ymm works on. */
struct vectors {
	struct {
		uint8_t ymm[8][32];
		uint32_t mxcsr;
		uint32_t reserved[63];
	} found, own;
};

_Static_assert(offsetof(struct vectors, own) == 0x200, "as in guests.S");

FIXTURE(xsave)
{
	struct vtl_guest guest;
	volatile struct vectors *data;
	/* What the kernel says, and room for images, whose ends are memory's. */
	uint32_t size;
	uint64_t xfeatures;
	uint64_t *image, *other;
	uint32_t avx, pkru; /* bytes from the begin */
};

static int call(int fd, unsigned long command, uint32_t size,
		uint64_t xfeatures, const void *image)
{
	struct mshv_vtl_xsave operand = { .size = size,
					  .xfeatures = xfeatures,
					  .image = (uintptr_t)image };

	return ioctl(fd, command, &operand) ? -errno : 0;
}

#define GET(into) call(self->guest.fd, MSHV_VTL_XSAVE_GET, self->size, 0, into)
#define SET(from)                                                             \
	call(self->guest.fd, MSHV_VTL_XSAVE_SET, self->size, self->xfeatures, \
	     from)

static uint32_t offset_of(uint32_t component)
{
	uint32_t eax, ebx, ecx, edx;

	__cpuid_count(0xd, component, eax, ebx, ecx, edx);
	return ebx;
}

/* Initial state of all components, but for MXCSR, which XRSTOR always loads. */
static uint64_t *reset(uint64_t *image, uint32_t size)
{
	uint32_t mxcsr = 0x1f80;

	memset(image, 0, size);
	memcpy((uint8_t *)image + MXCSR_BYTE, &mxcsr, sizeof(mxcsr));
	return image;
}

static void *at(uint64_t *image, uint32_t byte)
{
	return (uint8_t *)image + byte;
}

FIXTURE_SETUP(xsave)
{
	struct mshv_vtl_xsave ask = { 0 };
	uint64_t base, size;
	uint8_t *room;

	if (!vtl_memory(&base, &size))
		SKIP(return, "no vtl0_mem= on the kernel command line");
	ASSERT_EQ(0, vtl_guest_open(&self->guest, 0))
	{
		TH_LOG("%s", self->guest.why);
	}
	ASSERT_EQ(0, ioctl(self->guest.fd, MSHV_VTL_XSAVE_GET, &ask));
	self->size = ask.size;
	self->xfeatures = ask.xfeatures;
	ASSERT_LE(576, ask.size);
	ASSERT_GE(VTL_PAGE_SIZE, ask.size);
	ASSERT_EQ(0, ask.size % 8);
	room = mmap(NULL, 4 * VTL_PAGE_SIZE, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, room);
	self->image = (uint64_t *)room;
	ASSERT_EQ(0, mprotect(room + VTL_PAGE_SIZE, VTL_PAGE_SIZE, PROT_NONE));
	self->other = (uint64_t *)(room + 2 * VTL_PAGE_SIZE);
	self->avx = offset_of(2);
	self->pkru = offset_of(9);
	ASSERT_EQ(0, SET(reset(self->image, self->size)));
	self->data = vtl_map_low(base + VTL_PAGE_SIZE, VTL_PAGE_SIZE);
	ASSERT_NE(MAP_FAILED, (void *)self->data);
}

FIXTURE_TEARDOWN(xsave)
{
	struct mshv_register xfem = { .name = MSHV_REGISTER_XFEM,
				      .value = { 1 } };
	struct mshv_vp_registers request = { .count = 1,
					     .registers = (uintptr_t)&xfem };

	/* As before: the VP outlives the test. */
	SET(reset(self->image, self->size));
	ioctl(self->guest.fd, MSHV_SET_VP_REGISTERS, &request);
	munmap((void *)self->data, VTL_PAGE_SIZE);
	munmap(self->image, 4 * VTL_PAGE_SIZE);
	vtl_guest_close(&self->guest);
}

/* All components, each byte of which says where it is. */
static void fill(uint64_t *image, uint32_t size, uint64_t xfeatures,
		 uint32_t seed)
{
	uint32_t mxcsr = 0x1fa0;
	uint32_t i;

	for (i = 0; i < size; i++)
		((uint8_t *)image)[i] = seed + i * 7 + (i >> 5) * 31;
	memcpy((uint8_t *)image + MXCSR_BYTE, &mxcsr, sizeof(mxcsr));
	memset(image + XSTATE_BV, 0, 8 * (HEADER_END - XSTATE_BV));
	image[XSTATE_BV] = xfeatures;
}

#define FILL(seed) fill(self->image, self->size, self->xfeatures, seed)

/* The state is still that of the reset in the set-up. */
#define EXPECT_UNCHANGED(what)                                             \
	do {                                                               \
		ASSERT_EQ(0, GET(self->other));                            \
		reset(self->image, self->size);                            \
		self->image[0] = 0x37f;                                    \
		self->image[XSTATE_BV] = 3;                                \
		EXPECT_EQ(0, memcmp(self->image, self->other, self->size)) \
		{                                                          \
			TH_LOG("after %s", what);                          \
		}                                                          \
	} while (0)

#endif /* XSAVE_FIXTURE_H */
