// SPDX-License-Identifier: GPL-2.0
/*
 * The XSAVE image of the lower VTL: the guest sees what is set, and what the
 * guest leaves can be read. vp_xsave_refused.c has what is refused.
 */
#include "vtl_harness.h"
#include "xsave_fixture.h"

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
	/* x87 and SSE are in the run page. */
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
	/* What follows the registers of x87 and SSE has no meaning. */
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
	/* The guest has not changed PKRU, and has seen it. */
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
