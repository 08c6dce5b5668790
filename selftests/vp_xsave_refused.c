// SPDX-License-Identifier: GPL-2.0
/* The XSAVE image of the lower VTL: what is refused changes nothing. */
#include <pthread.h>
#include <unistd.h>

#include "vtl_harness.h"
#include "xsave_fixture.h"

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
	/* Size and components, which never change, can be queried. */
	EXPECT_EQ(0, call(self->guest.fd, MSHV_VTL_XSAVE_GET, 0, 0, NULL));
	self->guest.run->cancel = 1;
	pthread_join(thread, &result);
	EXPECT_EQ(-EINTR, (intptr_t)result);
	self->guest.run->cancel = 0;
	EXPECT_EQ(0, GET(self->other));
}

TEST_HARNESS_MAIN
