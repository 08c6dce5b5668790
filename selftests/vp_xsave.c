// SPDX-License-Identifier: GPL-2.0
/*
 * The XSAVE image of the lower VTL: what is refused changes nothing, what is
 * set the guest sees, and what the guest leaves behind can be read.
 */
#include <cpuid.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "vtl_harness.h"
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

TEST_F(xsave, asking_needs_no_image)
{
	uint32_t low, high;

	__asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
	EXPECT_EQ(3, self->xfeatures & 3);
	EXPECT_EQ(0, self->xfeatures & ~(low | (uint64_t)high << 32));
	EXPECT_EQ(low & BIT_AVX, self->xfeatures & BIT_AVX);
	EXPECT_EQ(low & BIT_PKRU, self->xfeatures & BIT_PKRU);
	/* Neither is more room. */
	EXPECT_EQ(0, call(self->guest.fd, MSHV_VTL_XSAVE_GET, ~0U, 0,
			  self->image));
}

TEST_F(xsave, each_reserved_bit_of_the_operand_is_refused)
{
	int bit, fd = self->guest.fd;

	FILL(5);
	for (bit = 0; bit < 64; bit++) {
		struct mshv_vtl_xsave get = { .size = self->size,
					      .image = (uintptr_t)self->other };
		struct mshv_vtl_xsave set = { .size = self->size,
					      .xfeatures = self->xfeatures ^
							   1ULL << bit,
					      .image = (uintptr_t)self->image };

		get.xfeatures = 1ULL << bit;
		EXPECT_EQ(-1, ioctl(fd, MSHV_VTL_XSAVE_GET, &get));
		EXPECT_EQ(EINVAL, errno);
		EXPECT_EQ(-1, ioctl(fd, MSHV_VTL_XSAVE_SET, &set));
		EXPECT_EQ(EINVAL, errno);
		if (bit >= 32)
			continue;
		get.xfeatures = 0;
		get.flags = 1U << bit;
		EXPECT_EQ(-1, ioctl(fd, MSHV_VTL_XSAVE_GET, &get));
		EXPECT_EQ(EINVAL, errno);
		set.xfeatures = self->xfeatures;
		set.flags = 1U << bit;
		EXPECT_EQ(-1, ioctl(fd, MSHV_VTL_XSAVE_SET, &set));
		EXPECT_EQ(EINVAL, errno);
	}
	EXPECT_UNCHANGED("reserved bits");
}

TEST_F(xsave, wrong_sizes_and_addresses_are_refused)
{
	uint32_t sizes[] = { 1, 512, self->size - 1, self->size + 1, ~0U };
	int fd = self->guest.fd;
	size_t i;

	FILL(5);
	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		if (sizes[i] < self->size)
			EXPECT_EQ(-EINVAL, call(fd, MSHV_VTL_XSAVE_GET,
						sizes[i], 0, self->other));
		EXPECT_EQ(-EINVAL, call(fd, MSHV_VTL_XSAVE_SET, sizes[i],
					self->xfeatures, self->image));
	}
	EXPECT_EQ(-EINVAL, call(fd, MSHV_VTL_XSAVE_SET, 0, self->xfeatures,
				self->image));
	for (i = 1; i < 64; i++) {
		EXPECT_EQ(-EINVAL, GET(at(self->other, i)));
		EXPECT_EQ(-EINVAL, SET(at(self->image, i)));
	}
	EXPECT_UNCHANGED("wrong sizes");
}

TEST_F(xsave, images_that_are_not_there_are_efault)
{
	/* Cut off by the end of memory. */
	uint8_t *cut = (uint8_t *)self->image + VTL_PAGE_SIZE - 512;
	const void *nowhere[] = { NULL,
				  cut,
				  cut + 512,
				  (void *)0x800000000000,
				  (void *)0xffffffff81000000,
				  (void *)-64L };
	size_t i;

	FILL(5);
	for (i = 0; i < ARRAY_SIZE(nowhere); i++) {
		EXPECT_EQ(-EFAULT, GET(nowhere[i]));
		EXPECT_EQ(-EFAULT, SET(nowhere[i]));
	}
	ASSERT_EQ(0, mprotect(self->image, VTL_PAGE_SIZE, PROT_READ));
	EXPECT_EQ(-EFAULT, GET(self->image));
	ASSERT_EQ(0,
		  mprotect(self->image, VTL_PAGE_SIZE, PROT_READ | PROT_WRITE));
	EXPECT_UNCHANGED("EFAULT");
}

TEST_F(xsave, images_that_xrstor_does_not_take_change_nothing)
{
	int bit, word;

	for (bit = 0; bit < 64; bit++) {
		for (word = XCOMP_BV; word < HEADER_END; word++) {
			FILL(5);
			self->image[word] = 1ULL << bit;
			EXPECT_EQ(-EINVAL, SET(self->image))
			{
				TH_LOG("word %d, bit %d", word, bit);
			}
		}
		FILL(5);
		self->image[XSTATE_BV] |= 1ULL << bit;
		if (!(self->xfeatures >> bit & 1))
			EXPECT_EQ(-EINVAL, SET(self->image))
			{
				TH_LOG("XSTATE_BV, bit %d", bit);
			}
		FILL(5);
		self->image[MXCSR_BYTE / 8] = 1ULL << bit;
		if (bit >= 16 && bit < 32)
			EXPECT_EQ(-EINVAL, SET(self->image))
			{
				TH_LOG("MXCSR, bit %d", bit);
			}
	}
	EXPECT_UNCHANGED("bad images");
}

static void *run(void *guest)
{
	/* The creator's affinity is inherited: the same CPU. */
	return (void *)(intptr_t)vtl_enter(guest);
}

TEST_F(xsave, a_vp_that_runs_is_busy)
{
	pthread_t thread;
	void *result;

	ASSERT_EQ(0, vtl_guest_load(&self->guest, vtl_guest_spin,
				    vtl_guest_spin_end));
	ASSERT_EQ(0, pthread_create(&thread, NULL, run, &self->guest));
	usleep(200 * 1000);
	FILL(5);
	EXPECT_EQ(-EBUSY, GET(self->other));
	EXPECT_EQ(-EBUSY, SET(self->image));
	/* What never changes can be asked for. */
	EXPECT_EQ(0, call(self->guest.fd, MSHV_VTL_XSAVE_GET, 0, 0, NULL));
	self->guest.run->cancel = 1;
	pthread_join(thread, &result);
	EXPECT_EQ(-EINTR, (intptr_t)result);
	self->guest.run->cancel = 0;
	EXPECT_EQ(0, GET(self->other));
}

TEST_F(xsave, what_is_set_can_be_read)
{
	volatile struct mshv_vtl_run *run = self->guest.run;
	uint32_t byte;

	FILL(9);
	ASSERT_EQ(0, SET(self->image));
	ASSERT_EQ(0, GET(self->other));
	EXPECT_EQ(0, memcmp(self->image, self->other, 576));
	if (self->xfeatures & BIT_AVX)
		EXPECT_EQ(0, memcmp(at(self->image, self->avx),
				    at(self->other, self->avx), 256));
	if (self->xfeatures & BIT_PKRU)
		EXPECT_EQ(0, memcmp(at(self->image, self->pkru),
				    at(self->other, self->pkru), 4));
	/* x87 and SSE went to the run page, and come from there. */
	for (byte = 0; byte < 512; byte++)
		EXPECT_EQ(((uint8_t *)self->image)[byte],
			  run->tdx.fx_state[byte]);
	run->tdx.fx_state[XMM_BYTE] ^= 0xff;
	ASSERT_EQ(0, GET(self->other));
	EXPECT_EQ(((uint8_t *)self->image)[XMM_BYTE] ^ 0xff,
		  ((uint8_t *)self->other)[XMM_BYTE]);
}

TEST_F(xsave, what_an_image_leaves_out_is_initial)
{
	FILL(9);
	ASSERT_EQ(0, SET(self->image));
	self->image[XSTATE_BV] = 0;
	*(uint32_t *)at(self->image, MXCSR_BYTE) = 0x1f80;
	ASSERT_EQ(0, SET(self->image));
	/* What is beyond the registers of x87 and SSE is nobody's. */
	ASSERT_EQ(0, GET(self->other));
	memset(at(self->other, MXCSR_BYTE + 4), 0, 4);
	memset(at(self->other, 416), 0, 96);
	reset(self->image, self->size);
	self->image[0] = 0x37f;
	self->image[XSTATE_BV] = 3;
	EXPECT_EQ(0, memcmp(self->image, self->other, self->size));
}

/* CR4.OSFXSR and OSXSAVE of the guest, and XCR0 with AVX. */
static int turn_avx_on(struct vtl_guest *guest)
{
	struct mshv_register xfem = { .name = MSHV_REGISTER_XFEM,
				      .value = { 7 } };
	struct mshv_vp_registers request = { .count = 1,
					     .registers = (uintptr_t)&xfem };
	struct mshv_tdcall write = { .rax = TDG_VP_WR,
				     .rdx = VMCS64(0x6804),
				     .r8 = 0x40200,
				     .r9 = 0x40200 };

	if (vtl_tdcall(guest->fd, &write) || vtl_status(&write))
		return -1;
	return ioctl(guest->fd, MSHV_SET_VP_REGISTERS, &request);
}

static int start(struct vtl_guest *guest)
{
	volatile struct mshv_vtl_run *run = guest->run;

	if (vtl_guest_load(guest, vtl_guest_ymm, vtl_guest_ymm_end) ||
	    turn_avx_on(guest))
		return -1;
	run->tdx.l2_enter_guest_state.gpr[RBX] = guest->base + VTL_PAGE_SIZE;
	return 0;
}

/* A byte of a ymm register in an image: SSE has the low half. */
static uint8_t ymm_byte(uint64_t *image, uint32_t avx, uint32_t number,
			uint32_t byte)
{
	uint32_t half = byte < 16 ? XMM_BYTE : avx;

	return *(uint8_t *)at(image, half + 16 * number + byte % 16);
}

TEST_F(xsave, the_guest_sees_what_is_set_and_leaves_what_is_read)
{
	struct vectors fresh;
	int number, byte;

	if (!(self->xfeatures & BIT_AVX))
		SKIP(return, "no AVX");
	memset(&fresh, 0, sizeof(fresh));
	for (number = 0; number < 8; number++)
		for (byte = 0; byte < 32; byte++)
			fresh.own.ymm[number][byte] = 0xc0 ^
						      (32 * number + byte);
	fresh.own.mxcsr = 0x1f90;
	memcpy((void *)self->data, &fresh, sizeof(fresh));

	ASSERT_EQ(0, start(&self->guest));
	FILL(0x21);
	ASSERT_EQ(0, SET(self->image));
	ASSERT_EQ(0, vtl_run(&self->guest));
	ASSERT_EQ(EXIT_HLT, vtl_exit_reason(&self->guest));
	EXPECT_EQ(0x1fa0, self->data->found.mxcsr);
	for (number = 0; number < 8; number++)
		for (byte = 0; byte < 32; byte++)
			EXPECT_EQ(ymm_byte(self->image, self->avx, number,
					   byte),
				  self->data->found.ymm[number][byte]);

	ASSERT_EQ(0, GET(self->other));
	EXPECT_EQ(BIT_AVX, self->other[XSTATE_BV] & BIT_AVX);
	EXPECT_EQ(0x1f90, *(uint32_t *)at(self->other, MXCSR_BYTE));
	for (number = 0; number < 8; number++)
		for (byte = 0; byte < 32; byte++)
			EXPECT_EQ(fresh.own.ymm[number][byte],
				  ymm_byte(self->other, self->avx, number,
					   byte));
	/* The guest has not touched PKRU, and has had it. */
	if (self->xfeatures & BIT_PKRU)
		EXPECT_EQ(0, memcmp(at(self->image, self->pkru),
				    at(self->other, self->pkru), 4));
}

TEST_F(xsave, the_guest_sees_initial_state)
{
	int number, byte;

	if (!(self->xfeatures & BIT_AVX))
		SKIP(return, "no AVX");
	FILL(0x33);
	ASSERT_EQ(0, SET(self->image));
	ASSERT_EQ(0, start(&self->guest));
	memset((void *)self->data, 0xee, sizeof(*self->data));
	self->data->own.mxcsr = 0x1f80;
	FILL(0x33);
	self->image[XSTATE_BV] = 3;
	ASSERT_EQ(0, SET(self->image));
	ASSERT_EQ(0, vtl_run(&self->guest));
	ASSERT_EQ(EXIT_HLT, vtl_exit_reason(&self->guest));
	for (number = 0; number < 8; number++)
		for (byte = 0; byte < 32; byte++)
			EXPECT_EQ(byte < 16 ? ymm_byte(self->image, self->avx,
						       number, byte) :
					      0,
				  self->data->found.ymm[number][byte]);
}

TEST_HARNESS_MAIN
