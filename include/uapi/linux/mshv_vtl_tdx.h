/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * Userspace interface of mshv_vtl_tdx: running the lower virtual trust levels
 * (VTLs) of an Intel TDX trust domain from a Linux at VTL2.
 */
#ifndef _UAPI_LINUX_MSHV_VTL_TDX_H
#define _UAPI_LINUX_MSHV_VTL_TDX_H

#include <linux/ioctl.h>
#include <linux/types.h>

/**
 * DOC: Form of the interface
 *
 * ``/dev/mshv``
 *	queries the interface (%MSHV_CHECK_EXTENSION) and makes VTL file
 *	descriptors (%MSHV_CREATE_VTL).
 * ``/dev/mshv_vtl``
 *	is such a VTL file descriptor itself. It is for all virtual
 *	processors (VPs); the VP index is the number of the Linux CPU.
 * ``/dev/mshv_vtl_low``
 *	maps memory of the lower VTLs by its guest-physical address;
 *	%MSHV_VTL_LOW_SHARED in the offset selects the alias shared with the
 *	host.
 * ``/dev/mshv_hvcall``
 *	makes hypercalls. It exists if the host is Hyper-V.
 * ``/dev/mshv_sint``
 *	relays VMBus messages and events. It exists if the host is Hyper-V
 *	and the kernel's VMBus driver does not use them.
 *
 * All have mode 0600 and need CAP_SYS_ADMIN at open.
 *
 * A VP is run by a thread on the CPU of that number: the thread writes the run
 * page of the VP (mapped from the VTL file descriptor), calls
 * %MSHV_RETURN_TO_LOWER_VTL, and on return 0 finds in the same page why the
 * lower VTL stopped.
 */

/**
 * DOC: Errors
 *
 * ENOTTY	the command is unknown on this file.
 * EFAULT	memory given by pointer can't be read or written.
 * EINVAL	a field has a value that the interface doesn't allow.
 * EOPNOTSUPP	the field is known, but this value of it is not supported.
 * EPERM	CAP_SYS_ADMIN is missing (at open); an executable mapping that
 *		the kernel itself refuses before it asks this driver (descriptors
 *		made by MSHV_CREATE_VTL; for others: EINVAL); a hypercall that is
 *		not in the list, or that the policy refuses.
 * EINTR	there is no exit: a signal is pending, ``cancel`` or
 *		``scan_proxy_irr`` is set, or ``left`` of the switch page is
 *		MSHV_VTL_LEFT_NOTICE. The same call may be made again.
 * EBUSY	another thread runs the VP of this CPU; a page can't be converted;
 *		memory has a struct page from another driver.
 * EMFILE	the file has reached its limit of redirected vectors for a CPU.
 * ENXIO	the VP of this CPU does not exist, the thread was migrated away
 *		from it, or the system is about to reboot.
 * ENOSPC	too many ranges of memory, or no interrupt vector left.
 * E2BIG	a structure that may grow has a field set that this module does
 *		not know.
 * EIO		the TDX module refused; its status is in ``exit_info.rax``. Or
 *		attestation is broken.
 *
 * A call that fails with EINVAL or EOPNOTSUPP has changed nothing; for
 * %MSHV_RETURN_TO_LOWER_VTL that is so before the lower VTL has run, except for
 * the deadline.
 */

/* The magic number of every command. */
#define MSHV_IOCTL 0xB8

/* In the offset of a mapping of /dev/mshv_vtl_low: the host-shared alias. */
#define MSHV_VTL_LOW_SHARED (1ULL << 63)

/* Commands of /dev/mshv. */

/**
 * MSHV_CHECK_EXTENSION - Query a property of the interface
 *
 * Argument: pointer to a __u32, one of MSHV_CAP_*. The result of the call is
 * the answer: 0 for no, positive for yes. Unknown properties: EOPNOTSUPP.
 */
#define MSHV_CHECK_EXTENSION _IOW(MSHV_IOCTL, 0x00, __u32)

/**
 * MSHV_CREATE_VTL - Make a VTL file descriptor
 *
 * The argument is ignored. The result of the call is the new descriptor, which
 * is closed on exec.
 */
#define MSHV_CREATE_VTL _IOR(MSHV_IOCTL, 0x1D, char)

/* The core interface is declared stable: 0. */
#define MSHV_CAP_CORE_API_STABLE 0
/* VTL file descriptors have a register page: never on TDX. */
#define MSHV_CAP_REGISTER_PAGE 1
/* The run page accepts VTL return actions: never on TDX. */
#define MSHV_CAP_VTL_RETURN_ACTION 2
/* DR6 is one register shared by all VTLs: always on TDX. */
#define MSHV_CAP_DR6_SHARED 3
/* The ``l2_tsc_deadline`` of the run page is supported. */
#define MSHV_CAP_LOWER_VTL_TIMER_VIRT 4

/* MSHV_VTL_INFO is supported. */
#define MSHV_CAP_INFO 0x100
/* MSHV_VTL_STATS is supported. */
#define MSHV_CAP_STATS 0x101
/* MSHV_VTL_MMAP_AUDIT_RING can be mapped. */
#define MSHV_CAP_AUDIT_RING 0x102
/* MSHV_VTL_POLICY is supported. */
#define MSHV_CAP_POLICY 0x103
/* MSHV_VTL_XSAVE_GET and MSHV_VTL_XSAVE_SET are supported. */
#define MSHV_CAP_XSAVE 0x104
/* MSHV_VTL_SWITCH_SETUP is supported: the TD has at least two L2 VMs. */
#define MSHV_CAP_VTL_SWITCH 0x105
/* MSHV_VTL_AUDIT_CHECKPOINT and MSHV_VTL_AUDIT_EVENT are supported. */
#define MSHV_CAP_ATTEST 0x106
/* MSHV_VTL_RESET is supported. */
#define MSHV_CAP_RESET 0x108
/* struct mshv_vtl_timer in the run page is served. */
#define MSHV_CAP_TIMER 0x109
/* MSHV_VTL_AUDIT_NOTE is supported. */
#define MSHV_CAP_AUDIT_NOTE 0x10a

/**
 * struct mshv_vtl_head - Beginning of every structure that may grow
 * @size: in: size of the caller's structure, at least that of its first version;
 *	out: bytes that were written
 * @selector: selects what is queried; see the command
 *
 * What follows the part that the module knows must be zero, otherwise E2BIG.
 * The numbers of these commands encode the size of the head only.
 */
struct mshv_vtl_head {
	__u32 size;
	__u32 selector;
};

/**
 * struct mshv_vtl_info - Facts that do not change while the module is loaded
 * @head: the selector is zero
 * @version: of the module: major << 32 | minor << 16 | patch
 * @capabilities: bit n is set if MSHV_CHECK_EXTENSION of 0x100 + n returns 1
 * @tdx_features0: TDX_FEATURES0 of the TDX module, 0 if it can't be read
 * @attributes: ATTRIBUTES of the TD
 * @xfam: XFAM of the TD
 * @tsc_khz: frequency of the time-stamp counter in kHz
 * @num_l2_vms: number of L2 VMs of the TD
 * @num_cpus: one more than the highest possible CPU number
 * @audit_records: records in the audit ring of a VP, a power of two
 * @exit_kinds: number of exit kinds that are counted
 */
struct mshv_vtl_info {
	struct mshv_vtl_head head;
	__u64 version;
	__u64 capabilities;
	__u64 tdx_features0;
	__u64 attributes;
	__u64 xfam;
	__u64 tsc_khz;
	__u32 num_l2_vms;
	__u32 num_cpus;
	__u32 audit_records;
	__u32 exit_kinds;
};

/**
 * MSHV_VTL_INFO - Query facts about module and trust domain
 *
 * Argument: struct mshv_vtl_info.
 */
#define MSHV_VTL_INFO _IOWR(MSHV_IOCTL, 0x60, struct mshv_vtl_head)

/**
 * struct mshv_vtl_policy - One line of the policy about TDCALLs or hypercalls
 * @head: the selector is the number of the line, from 0; after the last: ENXIO.
 *	With MSHV_VTL_POLICY_HVCALLS the line is one of the hypercalls
 * @leaf: number (bits 15:0) and version (bits 23:16) of a leaf that MSHV_TDCALL
 *	executes, if its operands allow it; or the code of a call that MSHV_HVCALL
 *	makes, likewise
 * @lines: number of lines
 * @reserved: zero
 * @name: of the leaf or hypercall, ends with a NUL
 * @reason: what of it is allowed and why, in words, ends with a NUL
 */
struct mshv_vtl_policy {
	struct mshv_vtl_head head;
	__u64 leaf;
	__u32 lines;
	__u32 reserved;
	char name[24];
	char reason[128];
};

/* In the selector: the line is one of the hypercalls. */
#define MSHV_VTL_POLICY_HVCALLS (1U << 31)

/**
 * MSHV_VTL_POLICY - Query which TDCALLs and hypercalls userspace may make
 *
 * Argument: struct mshv_vtl_policy.
 */
#define MSHV_VTL_POLICY _IOWR(MSHV_IOCTL, 0x62, struct mshv_vtl_head)

/* Commands of a VTL file descriptor. */

/**
 * MSHV_RETURN_TO_LOWER_VTL - Run the VP of the current CPU
 *
 * No argument. 0: the lower VTL ran and stopped for a reason that userspace
 * has to handle, described by ``tdx.exit_info``. EINTR: no exit. ENXIO: as
 * EINTR, but the thread is not on the VP's CPU any more; or this CPU has no VP.
 */
#define MSHV_RETURN_TO_LOWER_VTL _IO(MSHV_IOCTL, 0x27)

/**
 * struct mshv_register - A register and its value
 * @name: MSHV_REGISTER_*
 * @reserved: ignored
 * @value: low half first; the high half is ignored, and zero on return
 */
struct mshv_register {
	__u32 name;
	__u32 reserved[3];
	__u64 value[2];
};

/**
 * struct mshv_vp_registers - Operand of MSHV_GET_ and SET_VP_REGISTERS
 * @count: 1 to MSHV_VP_MAX_REGISTERS
 * @failed: in: ignored; out, with EINVAL and a count of more than one:
 *	index of the register that was refused
 * @registers: pointer to that many struct mshv_register
 */
struct mshv_vp_registers {
	__u32 count;
	__u32 failed;
	__u64 registers;
};

/* Limit for the number of registers per call. */
#define MSHV_VP_MAX_REGISTERS 128

/**
 * MSHV_GET_VP_REGISTERS - Read registers of the lower VTLs
 *
 * Of the VP of the current CPU. These registers are common to all lower VTLs and
 * have no field in the run page. EINVAL: another register; then none was
 * read. EBUSY, ENXIO: as for MSHV_RETURN_TO_LOWER_VTL.
 */
#define MSHV_GET_VP_REGISTERS _IOWR(MSHV_IOCTL, 0x05, struct mshv_vp_registers)

/**
 * MSHV_SET_VP_REGISTERS - Write registers of the lower VTLs
 *
 * As MSHV_GET_VP_REGISTERS. EINVAL also for a value that the processor doesn't
 * accept. If the call fails, none was written.
 */
#define MSHV_SET_VP_REGISTERS _IOW(MSHV_IOCTL, 0x06, struct mshv_vp_registers)

/* XCR0 of the lower VTLs: a subset of what VTL2 has enabled. Initially 1. */
#define MSHV_REGISTER_XFEM 0x00040005
#define MSHV_REGISTER_DR0 0x00050000
#define MSHV_REGISTER_DR1 0x00050001
#define MSHV_REGISTER_DR2 0x00050002
#define MSHV_REGISTER_DR3 0x00050003
#define MSHV_REGISTER_DR6 0x00050004
/* Virtual MTRRs: stored, and checked as by a processor, but without effect. */
#define MSHV_REGISTER_MTRR_CAP 0x0008000d
#define MSHV_REGISTER_MTRR_DEF_TYPE 0x0008000e
/* Sixteen of each. */
#define MSHV_REGISTER_MTRR_PHYS_BASE0 0x00080010
#define MSHV_REGISTER_MTRR_PHYS_MASK0 0x00080040
/* One for 64 KiB pieces, two for 16 KiB, eight for 4 KiB, lowest first. */
#define MSHV_REGISTER_MTRR_FIX64K_00000 0x00080070
#define MSHV_REGISTER_MTRR_FIX16K_80000 0x00080071
#define MSHV_REGISTER_MTRR_FIX4K_C0000 0x00080073

/**
 * struct mshv_vtl_xsave - Operand of MSHV_VTL_XSAVE_GET and MSHV_VTL_XSAVE_SET
 * @size: bytes at @image
 * @flags: zero
 * @xfeatures: components that an image can have, by their bits in XCR0
 * @image: pointer to the image, a multiple of 64
 */
struct mshv_vtl_xsave {
	__u32 size;
	__u32 flags;
	__u64 xfeatures;
	__u64 image;
};

/**
 * MSHV_VTL_XSAVE_GET - Read the extended state of the lower VTLs
 *
 * Of the VP of the current CPU, in the standard format of XSAVE. x87 and SSE
 * are those of ``fx_state`` in the run page. @size in: size of the buffer, or zero
 * to query size and components only; out: size of an image. @xfeatures in: zero.
 * EINVAL: the buffer is too small, or another field is not as described. EBUSY, ENXIO:
 * as for MSHV_RETURN_TO_LOWER_VTL.
 */
#define MSHV_VTL_XSAVE_GET _IOWR(MSHV_IOCTL, 0x63, struct mshv_vtl_xsave)

/**
 * MSHV_VTL_XSAVE_SET - Write the extended state of the lower VTLs
 *
 * Of the VP of the current CPU; x87 and SSE go to ``fx_state`` in the run page.
 * @size and @xfeatures are what MSHV_VTL_XSAVE_GET returns. A component whose
 * bit in XSTATE_BV is clear gets its initial state. EINVAL: a field is not as
 * described, or XRSTOR would not accept the image: XSTATE_BV has other bits than
 * @xfeatures, XCOMP_BV or the rest of the header is not zero, MXCSR has
 * reserved bits. EBUSY, ENXIO: as above. If the call fails, nothing was
 * written.
 */
#define MSHV_VTL_XSAVE_SET _IOW(MSHV_IOCTL, 0x64, struct mshv_vtl_xsave)

/**
 * MSHV_VTL_RESET - Reset a VP to its state after loading the module
 *
 * Of the VP of the current CPU, for a new guest. Argument: struct mshv_vtl_head,
 * whose selector is zero. Of all lower VTLs: extended state and PKRU, XCR0, debug
 * registers, virtual MTRRs, the MSRs that the module keeps for each VM
 * (IA32_SPEC_CTRL, UMWAIT_CONTROL, TSX_CTRL, XFD, XFD_ERR, U_CET, PL0_SSP to
 * PL3_SSP) and deadlines get their initial values. The run page is zeroed, except
 * @proxy_irr_blocked, which blocks all, @cancel, and the request to invalidate in
 * the low two bits of @entry_rcx; so is the virtual-APIC page of VTL0, and the
 * switch page except @flush and @flushed. What userspace writes by MSHV_TDCALL
 * stays. EINVAL: a size below that of the head, or a selector. E2BIG: a field is set that this module does not know.
 * EBUSY, ENXIO: as for MSHV_RETURN_TO_LOWER_VTL. EIO: the TDX module refused a
 * deadline; nothing else has changed.
 */
#define MSHV_VTL_RESET _IOW(MSHV_IOCTL, 0x68, struct mshv_vtl_head)

/**
 * struct mshv_vtl_switch - Operand of MSHV_VTL_SWITCH_SETUP
 * @head: the selector is the CPU of the VP; without such a VP: ENXIO
 * @assist: address of VTL1's VP assist page in this process, page aligned; 0: the
 *	kernel does not switch any more
 * @flags: zero
 */
struct mshv_vtl_switch {
	struct mshv_vtl_head head;
	__u64 assist;
	__u64 flags;
};

/**
 * MSHV_VTL_SWITCH_SETUP - Make the kernel carry out VTL calls and returns
 *
 * Applies to runs of the VP by this process through this file, from the next one on,
 * which use struct mshv_vtl_switch_page (MSHV_VTL_MMAP_SWITCH_PAGE).
 * EINVAL: @assist is not the address of a page, @flags, or a size below that of the
 * structure. E2BIG: a field is set that this module does not know. ENXIO: no such VP.
 * EOPNOTSUPP: the TD has no VM 2. EBUSY: through this file an address was set in
 * another address space, by another process or before exec(). Then nothing has changed.
 */
#define MSHV_VTL_SWITCH_SETUP _IOW(MSHV_IOCTL, 0x65, struct mshv_vtl_head)

/**
 * struct mshv_vtl_parked - Private state of the VTL that does not run
 * @rsp: of the VTL, as all that follows
 * @rip: address of the next instruction
 * @rflags: processor flags
 * @ssp: shadow-stack pointer
 * @rvi: highest requested vector
 * @svi: highest vector in service
 * @halt: MSHV_VTL_HALT_*; the rest is zero
 * @reserved1: zero
 * @msr_kernel_gs_base: IA32_KERNEL_GS_BASE
 * @msr_star: IA32_STAR
 * @msr_lstar: IA32_LSTAR
 * @msr_sfmask: IA32_FMASK
 * @msr_xss: IA32_XSS
 * @msr_tsc_aux: IA32_TSC_AUX
 * @reserved2: zero
 */
struct mshv_vtl_parked {
	__u64 rsp;
	__u64 rip;
	__u64 rflags;
	__u64 ssp;
	__u8 rvi;
	__u8 svi;
	__u8 halt;
	__u8 reserved1[5];
	__u64 msr_kernel_gs_base;
	__u64 msr_star;
	__u64 msr_lstar;
	__u64 msr_sfmask;
	__u64 msr_xss;
	__u64 msr_tsc_aux;
	__u64 reserved2[5];
};

/**
 * struct mshv_vtl_switch_page - Page shared by userspace and kernel for VTL switches
 * @enable: MSHV_VTL_SWITCH_*: what the kernel may handle by itself
 * @reserved1: ignored
 * @active_vm: hint: VTL whose state is in the run page, 1 or 2
 * @left: MSHV_VTL_LEFT_*: why the last VTL call or return was left to userspace; 0: none
 *	was in the last run
 * @flush: a change of [vm] makes the next entry of that VM invalidate its translations
 * @flushed: values of @flush that an entry of that VM has carried out last
 * @reserved2: ignored
 * @parked: of VM 1, then of VM 2: the state of the one that is not in the run page
 */
struct mshv_vtl_switch_page {
	__u32 enable;
	__u32 reserved1;
	__u32 active_vm;
	__u32 left;
	__u64 flush[4];
	__u64 flushed[4];
	__u64 reserved2[22];
	struct mshv_vtl_parked parked[2];
};

/* In @enable. VTL0 may call VTL1. */
#define MSHV_VTL_SWITCH_CALL (1 << 0)
/* VTL1 may return to VTL0. */
#define MSHV_VTL_SWITCH_RETURN (1 << 1)
/* The kernel handles interrupts for VTL0 while VTL1 runs. */
#define MSHV_VTL_SWITCH_PROXY (1 << 2)
/* VTL1 has VINA enabled: interrupts that VTL0 could accept are left to userspace. */
#define MSHV_VTL_SWITCH_VINA (1 << 3)
/* With it: a return clears "asserted". */
#define MSHV_VTL_SWITCH_VINA_AUTO_RESET (1 << 4)

/* In @left. Not enabled. */
#define MSHV_VTL_LEFT_DISABLED 1
/* Not in 64-bit mode at CPL 0, single-stepping, or an unusual instruction. */
#define MSHV_VTL_LEFT_MODE 2
/* RCX or RAX is invalid, or it is the wrong VTL. */
#define MSHV_VTL_LEFT_OPERANDS 3
/* The target has MSHV_VTL_HALT_OTHER. */
#define MSHV_VTL_LEFT_HALTED 4
/* The target can't be entered: no virtual-APIC page, or an invalid VMCS. */
#define MSHV_VTL_LEFT_NOT_ENTERABLE 5
/*
 * VTL0 has an interrupt of which VTL1 has to be notified. Also with EINTR, and with an
 * exit because of VTL0's timer.
 */
#define MSHV_VTL_LEFT_NOTICE 6
/* The assist page can't be accessed. */
#define MSHV_VTL_LEFT_ASSIST 7

/**
 * struct mshv_set_poll_file - Operand of MSHV_SET_POLL_FILE
 * @cpu: the VP
 * @fd: the file; negative: remove it
 */
struct mshv_set_poll_file {
	__u32 cpu;
	__s32 fd;
};

/**
 * MSHV_SET_POLL_FILE - Cancel runs of a VP whenever a file is readable
 *
 * When @fd of struct mshv_set_poll_file becomes readable, ``cancel`` of the
 * VP's run page is set and its thread is kicked; immediately, if the file is
 * readable already. A file descriptor of /dev/mshv_vtl has one such file per VP:
 * a new one replaces it. It is removed when the process that has set it closes
 * its last descriptor of /dev/mshv_vtl.
 * ENXIO: no such VP. EBADF: no such file. EINVAL: it can't be polled. On
 * failure the earlier file stays.
 */
#define MSHV_SET_POLL_FILE _IOW(MSHV_IOCTL, 0x25, struct mshv_set_poll_file)

/**
 * struct mshv_kick_cpus - Operand of MSHV_KICK_CPUS
 * @len_bits: length of the mask in bits
 * @cpu_mask: pointer to the mask; bit n is CPU n, lowest first in each byte
 * @flags: MSHV_KICK_*
 */
struct mshv_kick_cpus {
	__u64 len_bits;
	__u64 cpu_mask;
	__u64 flags;
};

/**
 * MSHV_KICK_CPUS - Make VPs leave the lower VTL
 *
 * Every listed VP that is inside a lower VTL leaves it, and reads its run page
 * before it enters again. A halted one reads it, too. VPs that are not inside,
 * or whose CPU was never online, are not affected (but cancelled, with
 * MSHV_KICK_CANCEL). Bits of CPUs that can't exist are ignored. EINVAL: unknown
 * flags.
 * EINTR: killed while waiting.
 */
#define MSHV_KICK_CPUS _IOW(MSHV_IOCTL, 0x38, struct mshv_kick_cpus)

/**
 * struct mshv_map_device_intr - Operand of MSHV_MAP_REDIRECTED_DEVICE_INTERRUPT
 * @vector: in: vector of VTL0, from 32 to 255; out: vector of VTL2 that stands for
 *	it. To remove a mapping: the vector of VTL2
 * @apic_id: x2APIC ID of the processor, for both
 * @create_mapping: 1: make a mapping; 0: remove it
 * @padding: ignored
 */
struct mshv_map_device_intr {
	__u32 vector;
	__u32 apic_id;
	__u8 create_mapping;
	__u8 padding[7];
};

/**
 * MSHV_MAP_REDIRECTED_DEVICE_INTERRUPT - Redirect a device interrupt to VTL0
 *
 * Argument: struct mshv_map_device_intr. An interrupt with the vector of VTL2 on that
 * processor is added to @proxy_irr of the run page. Mappings end with the descriptor.
 *
 * Return: 0. EINVAL: @vector or @create_mapping; no such mapping. ENXIO:
 * no VP with that ID. EMFILE: the file has 64 vectors of this processor. ENOSPC: the
 * processor has no vector left, or 128 are redirected. ENOMEM, EFAULT. Nothing has
 * changed then.
 */
#define MSHV_MAP_REDIRECTED_DEVICE_INTERRUPT \
	_IOWR(MSHV_IOCTL, 0x39, struct mshv_map_device_intr)

/* Return only after each of them has left the lower VTL. */
#define MSHV_KICK_WAIT (1ULL << 0)
/* Set ``cancel`` of their run pages first. */
#define MSHV_KICK_CANCEL (1ULL << 1)

/* Commands of /dev/mshv_hvcall. */

/**
 * struct mshv_vtl_hvcall_setup - List of the hypercalls that a file will make
 * @bitmap_array_size: bytes of the list, at most 8192
 * @allow_bitmap_ptr: pointer to the list: bit n of byte m is code 8 m + n
 */
struct mshv_vtl_hvcall_setup {
	__u64 bitmap_array_size;
	__u64 allow_bitmap_ptr;
};

/**
 * MSHV_HVCALL_SETUP - Declare which hypercalls a file will make
 *
 * Once for each open file; before that none is allowed. EINVAL: the list is too
 * long, or there is one already.
 */
#define MSHV_HVCALL_SETUP _IOW(MSHV_IOCTL, 0x1E, struct mshv_vtl_hvcall_setup)

/**
 * struct mshv_vtl_hvcall - A hypercall
 * @control: the control word: 15:0 code, 26:17 size of a variable header,
 *	43:32 number of elements, 59:48 elements that are done
 * @input_size: bytes of input, at most 4096
 * @input_ptr: pointer to the input
 * @status: out: 15:0 result, 43:32 elements that are done
 * @output_size: bytes of output, at most 4096
 * @output_ptr: pointer to the output
 */
struct mshv_vtl_hvcall {
	__u64 control;
	__u64 input_size;
	__u64 input_ptr;
	__u64 status;
	__u64 output_size;
	__u64 output_ptr;
};

/**
 * MSHV_HVCALL - Make a hypercall
 *
 * The call succeeds whatever the host answers: its answer is in @status of
 * struct mshv_vtl_hvcall, and the output has zeros where the host wrote
 * nothing. If and only if @status reports success, all elements are done.
 * EPERM: the file has not declared this call, or the policy refuses it. EBUSY: a page
 * whose visibility is to change has a struct page, or is the virtual-APIC page of a VP.
 * EINTR: killed while waiting. EINVAL: more than a page, or a control word with reserved
 * bits, with parameters in registers (bit 16), for a nested hypervisor (bit 31), or with
 * more elements done than there are.
 */
#define MSHV_HVCALL _IOWR(MSHV_IOCTL, 0x1F, struct mshv_vtl_hvcall)

/* Commands of /dev/mshv_sint. */

/**
 * struct mshv_vtl_signal_event - An event
 * @connection_id: the connection
 * @flag: number of the flag, below 2048
 */
struct mshv_vtl_signal_event {
	__u32 connection_id;
	__u32 flag;
};

/**
 * MSHV_SINT_SIGNAL_EVENT - Signal an event to the host
 *
 * The result of the call is the host's: 0, or one of its 16-bit status codes.
 * EINVAL: no such flag.
 */
#define MSHV_SINT_SIGNAL_EVENT \
	_IOW(MSHV_IOCTL, 0x22, struct mshv_vtl_signal_event)

/**
 * struct mshv_vtl_sint_post_msg - A message
 * @message_type: its type, 32 bits
 * @connection_id: the connection
 * @payload_size: bytes of payload, at most 240
 * @payload_ptr: pointer to the payload
 */
struct mshv_vtl_sint_post_msg {
	__u64 message_type;
	__u32 connection_id;
	__u32 payload_size;
	__u64 payload_ptr;
};

/**
 * MSHV_SINT_POST_MESSAGE - Post a message to the host
 *
 * The result of the call is the host's: 0, or one of its 16-bit status codes.
 * EINVAL: the type or the payload is too large.
 */
#define MSHV_SINT_POST_MESSAGE \
	_IOW(MSHV_IOCTL, 0x23, struct mshv_vtl_sint_post_msg)

/**
 * struct mshv_vtl_set_eventfd - An eventfd for an event flag
 * @fd: the eventfd; negative: remove it
 * @flag: number of the flag, below 2048
 */
struct mshv_vtl_set_eventfd {
	__s32 fd;
	__u32 flag;
};

/**
 * MSHV_SINT_SET_EVENTFD - Signal an eventfd for an event of the host
 *
 * It replaces an earlier one of that flag. It is released when the file through
 * which it was registered is closed. EINVAL: no such flag, or not an eventfd.
 * EBADF: no such file.
 */
#define MSHV_SINT_SET_EVENTFD \
	_IOW(MSHV_IOCTL, 0x24, struct mshv_vtl_set_eventfd)

/**
 * struct mshv_sint_mask - State of the stream
 * @mask: 1: paused, 0: not paused
 * @reserved: ignored
 */
struct mshv_sint_mask {
	__u8 mask;
	__u8 reserved[7];
};

/**
 * MSHV_SINT_PAUSE_MESSAGE_STREAM - Pause messages and events, or resume them
 *
 * For all files and CPUs. While paused, the host can't deliver further messages
 * and events, and a reader gets end of file after the messages that were there.
 * It is paused when the module is loaded. EINVAL: another value.
 */
#define MSHV_SINT_PAUSE_MESSAGE_STREAM \
	_IOW(MSHV_IOCTL, 0x25, struct mshv_sint_mask)

/**
 * struct mshv_vtl_ram_disposition - Memory to register
 * @start_pfn: first page frame; MSHV_VTL_RAM_SHARED: memory shared with the
 *	host, which is not supported
 * @last_pfn: page frame after the last
 *
 * Both are multiples of 512: whole pieces of 2 MiB.
 */
struct mshv_vtl_ram_disposition {
	__u64 start_pfn;
	__u64 last_pfn;
};

/* In start_pfn. */
#define MSHV_VTL_RAM_SHARED (1ULL << 51)

/**
 * MSHV_ADD_VTL0_MEMORY - Make memory of a lower VTL usable for direct I/O
 *
 * Parts of the range that are registered already stay, the others are added.
 * Mappings of /dev/mshv_vtl_low that are made afterwards, of registered memory
 * only, can be pinned. The registration ends with the last VTL and vtl_low
 * descriptor and mapping. EOPNOTSUPP: memory shared with the host. EBUSY: some of it
 * has a struct page from another driver.
 */
#define MSHV_ADD_VTL0_MEMORY \
	_IOW(MSHV_IOCTL, 0x21, struct mshv_vtl_ram_disposition)

/**
 * struct mshv_vtl_partition_time - Not supported on TDX
 * @tsc_sequence: ignored
 * @reserved: ignored
 * @reference_time_100ns: ignored
 * @tsc: ignored
 */
struct mshv_vtl_partition_time {
	__u32 tsc_sequence;
	__u32 reserved;
	__u64 reference_time_100ns;
	__u64 tsc;
};

/**
 * MSHV_RESTORE_PARTITION_TIME - EOPNOTSUPP: nothing can set the time of a TD
 */
#define MSHV_RESTORE_PARTITION_TIME \
	_IOW(MSHV_IOCTL, 0x13, struct mshv_vtl_partition_time)

/**
 * MSHV_READ_VMX_CR4_FIXED1 - Read which bits of CR4 a lower VTL may set
 *
 * Argument: pointer to a __u64, which receives IA32_VMX_CR4_FIXED1.
 */
#define MSHV_READ_VMX_CR4_FIXED1 _IOR(MSHV_IOCTL, 0x33, __u64)

/**
 * struct mshv_tdcall - Registers of a TDCALL
 * @rax: in: leaf, out: completion status of the TDX module
 * @rcx: in and out
 * @rdx: in and out
 * @r8: in and out
 * @r9: in and out
 * @r10_out: out only
 * @r11_out: out only
 */
struct mshv_tdcall {
	__u64 rax;
	__u64 rcx;
	__u64 rdx;
	__u64 r8;
	__u64 r9;
	__u64 r10_out;
	__u64 r11_out;
};

/**
 * MSHV_TDCALL - Execute a TDCALL leaf that concerns the lower VTLs
 *
 * The call succeeds whatever the TDX module answers. If a leaf, field or address
 * is not allowed, the TDCALL is not executed, and @rax of struct mshv_tdcall
 * returns OPERAND_INVALID (0xC000010000000000 plus the number of the operand).
 */
#define MSHV_TDCALL _IOWR(MSHV_IOCTL, 0x32, struct mshv_tdcall)

/*
 * Kinds of exit. Below 96: the basic reason of an exit that userspace sees.
 */
#define MSHV_VTL_EXIT_HOST_ROUTED 96
#define MSHV_VTL_EXIT_INTERRUPTED 97
#define MSHV_VTL_EXIT_NOT_ENTERED 98
#define MSHV_VTL_EXIT_REFUSED 99
#define MSHV_VTL_EXIT_OTHER 100
#define MSHV_VTL_EXIT_KINDS 104

/**
 * struct mshv_vtl_exit_stats - Exits of one kind
 * @count: number of exits
 * @handled: number of those after which the kernel entered again by itself
 * @cycles: TSC ticks from before the entry to after the exit, all together
 */
struct mshv_vtl_exit_stats {
	__u64 count;
	__u64 handled;
	__u64 cycles;
};

/* Indices of @refused: by errno of MSHV_RETURN_TO_LOWER_VTL, and TDCALLs. */
#define MSHV_VTL_REFUSED_EINTR 0
#define MSHV_VTL_REFUSED_EBUSY 1
#define MSHV_VTL_REFUSED_EINVAL 2
#define MSHV_VTL_REFUSED_EOPNOTSUPP 3
#define MSHV_VTL_REFUSED_EIO 4
#define MSHV_VTL_REFUSED_OTHER 5
#define MSHV_VTL_REFUSED_TDCALL 6

/**
 * struct mshv_vtl_stats - Counters of one VP since the module was loaded
 * @head: the selector is the CPU of the VP; without such a VP: ENXIO
 * @refused: what was refused, MSHV_VTL_REFUSED_*
 * @exit_kinds: number of elements of @exits that the module knows
 * @exits: by kind
 * @refused_hvcalls: calls of MSHV_HVCALL that were not in the list of the file, or
 *	refused by the policy; the first version of this structure, of 2568 bytes, ends
 *	before it
 * @stalls: exits passed to userspace because the host had routed too many to VTL2 at
 *	one instruction; the second version, of 2576 bytes, ends before it
 * @exit_storms: number of times that MSHV_VTL_STORM_EXITS exits that the host can
 *	cause came in quick succession
 * @storm_ticks: TSC ticks that all of them took together
 * @shortest_storm_ticks: TSC ticks of the shortest; 0 if there was none. The third version, of
 *	2608 bytes, ends after it
 * @vtl_calls: VTL calls that the kernel carried out
 * @vtl_returns: VTL returns that it carried out, except fast ones
 * @vtl_fast_returns: fast VTL returns
 * @vtl_left: VTL calls and returns that were left to userspace with a reason in @left
 *	of the switch page
 * @vtl_flushes: entries that invalidated translations because of a change of @flush
 * @vtl_proxied: number of times that interrupts for VTL0 were taken while VTL1 ran
 */
struct mshv_vtl_stats {
	struct mshv_vtl_head head;
	__u64 refused[7];
	__u64 exit_kinds;
	struct mshv_vtl_exit_stats exits[MSHV_VTL_EXIT_KINDS];
	__u64 refused_hvcalls;
	__u64 stalls;
	__u64 exit_storms;
	__u64 storm_ticks;
	__u64 shortest_storm_ticks;
	__u64 vtl_calls;
	__u64 vtl_returns;
	__u64 vtl_fast_returns;
	__u64 vtl_left;
	__u64 vtl_flushes;
	__u64 vtl_proxied;
};

/* Number of exits in an exit storm. */
#define MSHV_VTL_STORM_EXITS 1024

/**
 * MSHV_VTL_STATS - Read the counters of a VP
 *
 * Argument: struct mshv_vtl_stats.
 */
#define MSHV_VTL_STATS _IOWR(MSHV_IOCTL, 0x61, struct mshv_vtl_head)

/* How attestation stands: events can be made. */
#define MSHV_VTL_ATTEST_OPEN 1
/* The register could not be extended, or something else has extended it. */
#define MSHV_VTL_ATTEST_BROKEN 2
/* The last event was made; the system is about to reboot. */
#define MSHV_VTL_ATTEST_CLOSED 3

/**
 * struct mshv_vtl_audit_checkpoint - Operand of MSHV_VTL_AUDIT_CHECKPOINT
 * @head: the selector is zero
 * @nonce: goes into the event
 * @flags: MSHV_VTL_CHECKPOINT_*
 * @reserved: zero
 * @number: in: not looked at; out: number of the event
 */
struct mshv_vtl_audit_checkpoint {
	struct mshv_vtl_head head;
	__u8 nonce[32];
	__u32 flags;
	__u32 reserved;
	__u64 number;
};

/* Take every VP out of the lower VTL first, so that long stays are recorded. */
#define MSHV_VTL_CHECKPOINT_KICK (1U << 0)

/**
 * MSHV_VTL_AUDIT_CHECKPOINT - Have all records so far attested
 *
 * Argument: struct mshv_vtl_audit_checkpoint. When the call returns, the register
 * was extended with the event. EOPNOTSUPP: the module was loaded without
 * attestation. EINVAL: a field is not as described. EIO: attestation is broken.
 * ENXIO: the system is about to reboot. EINTR: killed while waiting for a VP.
 */
#define MSHV_VTL_AUDIT_CHECKPOINT _IOWR(MSHV_IOCTL, 0x66, struct mshv_vtl_head)

/**
 * struct mshv_vtl_audit_event - Operand of MSHV_VTL_AUDIT_EVENT
 * @head: the selector is zero
 * @number: of the event
 * @buffer: pointer to room for it
 * @size: in: bytes of room; 0: no event, only what is below; out: bytes of the
 *	event, 0 without one
 * @state: out, as the others below: MSHV_VTL_ATTEST_*
 * @first: number of the oldest event that is kept
 * @next: number of the next event
 * @mode: 1: ``attest=try``; 2: ``attest=require``
 * @rtmr: index of the register that is extended
 * @streams: streams of records, one for each CPU number and the control plane's
 * @leaves: slots in a ring of leaves, a power of two
 * @interval: seconds from one checkpoint to the next; 0: only those asked for
 * @batch: pages of records after which a VP has them hashed
 */
struct mshv_vtl_audit_event {
	struct mshv_vtl_head head;
	__u64 number;
	__u64 buffer;
	__u32 size;
	__u32 state;
	__u64 first;
	__u64 next;
	__u32 mode;
	__u32 rtmr;
	__u32 streams;
	__u32 leaves;
	__u32 interval;
	__u32 batch;
};

/**
 * MSHV_VTL_AUDIT_EVENT - Read an event of the attested log, and how that stands
 *
 * Argument: struct mshv_vtl_audit_event. EOPNOTSUPP: the module was loaded
 * without attestation. ENXIO: there is no such event yet, or not any more.
 * EINVAL: @size is too small for it, or the selector is not zero.
 */
#define MSHV_VTL_AUDIT_EVENT _IOWR(MSHV_IOCTL, 0x67, struct mshv_vtl_head)

/**
 * struct mshv_vtl_audit_note - Operand of MSHV_VTL_AUDIT_NOTE
 * @head: the selector is zero
 * @words: what the caller has recorded; they mean nothing to the module
 */
struct mshv_vtl_audit_note {
	struct mshv_vtl_head head;
	__u64 words[3];
};

/**
 * MSHV_VTL_AUDIT_NOTE - Record an event of userspace in the control plane
 *
 * Argument: struct mshv_vtl_audit_note. EINVAL: the selector is not zero.
 */
#define MSHV_VTL_AUDIT_NOTE _IOW(MSHV_IOCTL, 0x69, struct mshv_vtl_head)

/*
 * What a VTL file descriptor maps: one page, MAP_SHARED, not executable; the
 * offset in pages selects it. Rings are mapped as a whole, and for reading only:
 * the audit ring of a VP, @audit_records of struct mshv_vtl_audit_record; and with
 * attestation the leaves of that, @leaves of struct mshv_vtl_audit_leaf, the
 * records of the control plane, @audit_records of struct
 * mshv_vtl_control_record, and the leaves of that. The last two have CPU 0 in the
 * offset.
 */
#define MSHV_VTL_MMAP_RUN_PAGE 0 /* struct mshv_vtl_run */
#define MSHV_VTL_MMAP_VAPIC_PAGE 3 /* virtual APIC page of VM 1 */
#define MSHV_VTL_MMAP_AUDIT_RING 0x10 /* struct mshv_vtl_audit_record[] */
#define MSHV_VTL_MMAP_SWITCH_PAGE 0x11 /* struct mshv_vtl_switch_page */
#define MSHV_VTL_MMAP_LEAVES 0x12 /* struct mshv_vtl_audit_leaf[] */
#define MSHV_VTL_MMAP_CONTROL_RING 0x13 /* struct mshv_vtl_control_record[] */
#define MSHV_VTL_MMAP_CONTROL_LEAVES 0x14 /* struct mshv_vtl_audit_leaf[] */
#define MSHV_VTL_MMAP_KIND_SHIFT 16
#define MSHV_VTL_MMAP_PGOFF(kind, cpu) \
	(((kind) << MSHV_VTL_MMAP_KIND_SHIFT) | (cpu))

/**
 * struct mshv_vtl_audit_record - One switch to a lower VTL and back
 * @sequence: number of the switch, from 1; the record is in slot
 *	@sequence % audit_records. 0: none yet, or being written
 * @entry_tsc: TSC before the entry
 * @cycles: TSC ticks from @entry_tsc to after the exit
 * @status: completion status (high half) and raw exit reason (low half)
 * @qualification: exit qualification; 0 if the lower VTL did not run
 * @rip: instruction pointer of the lower VTL after the exit
 * @thread: thread ID of the thread that ran the VP
 * @vp: CPU number of the VP
 * @vm: VM that was entered, 1 is VTL0
 * @entry_reason: 0: userspace made the ioctl; otherwise the previous exit's kind
 *	plus one, which the kernel handled by itself
 * @exit_kind: kind of this exit
 * @flags: MSHV_VTL_AUDIT_*
 * @reserved: zero
 *
 * Read @sequence, then the rest, then @sequence again: if both are the same
 * and not zero, the record is complete.
 */
struct mshv_vtl_audit_record {
	__u64 sequence;
	__u64 entry_tsc;
	__u64 cycles;
	__u64 status;
	__u64 qualification;
	__u64 rip;
	__u32 thread;
	__u16 vp;
	__u8 vm;
	__u8 entry_reason;
	__u8 exit_kind;
	__u8 flags;
	__u8 reserved[6];
};

/* Instructions of the lower VTL may have run. */
#define MSHV_VTL_AUDIT_HAS_RUN (1 << 0)
/* The exit interrupted the delivery of an event. */
#define MSHV_VTL_AUDIT_EVENT_CUT_OFF (1 << 1)
/* The entry asked the TDX module to invalidate translations. */
#define MSHV_VTL_AUDIT_INVALIDATED (1 << 2)

/**
 * struct mshv_vtl_control_record - One event of the control plane
 * @sequence: number of the event, as that of a switch
 * @tsc: TSC when it was written
 * @result: RAX of the TDCALL, else zero
 * @operands: by @op
 * @process: process that caused it
 * @op: MSHV_VTL_CONTROL_*
 * @reserved1: zero
 * @user: real user id of the process, in the initial namespace
 * @reserved2: zero
 *
 * It is read as struct mshv_vtl_audit_record is.
 */
struct mshv_vtl_control_record {
	__u64 sequence;
	__u64 tsc;
	__u64 result;
	__u64 operands[3];
	__u32 process;
	__u16 op;
	__u16 reserved1;
	__u32 user;
	__u32 reserved2;
};

/* Module loaded: number of L2 VMs, records of a ring, bytes of lower memory. */
#define MSHV_VTL_CONTROL_LOAD 1
/* VTL descriptor made by MSHV_CREATE_VTL. */
#define MSHV_VTL_CONTROL_CREATE_VTL 2
/* TDG.MEM.PAGE.ATTR.WR executed: RCX, RDX, R8. */
#define MSHV_VTL_CONTROL_PAGE_ATTR_WR 3
/* TDCALL refused by the policy: RAX, RCX, RDX. */
#define MSHV_VTL_CONTROL_TDCALL_REFUSED 4
/* Hypercall refused: control word. */
#define MSHV_VTL_CONTROL_HVCALL_REFUSED 5
/* MSHV_VTL_AUDIT_NOTE: its words. */
#define MSHV_VTL_CONTROL_NOTE 6

/**
 * struct mshv_vtl_audit_leaf - Hash of some records of a stream
 * @segment: its number in the stream, from 1; stands in slot @segment % leaves. 0:
 *	none yet, or being written
 * @first: number of the first of the records
 * @count: how many, at most 64
 * @stream: CPU whose they are; MSHV_VTL_CONTROL_STREAM: the control plane's
 * @reserved: zero
 * @leaf: SHA-256
 *
 * It is read as struct mshv_vtl_audit_record is.
 */
struct mshv_vtl_audit_leaf {
	__u64 segment;
	__u64 first;
	__u32 count;
	__u32 stream;
	__u64 reserved;
	__u8 leaf[32];
};

#define MSHV_VTL_CONTROL_STREAM 0xffff

/**
 * struct mshv_tdx_exit_info - Registers as TDG.VP.ENTER left them
 * @rax: completion status (high half) and raw exit reason (low half)
 * @rcx: exit qualification
 * @rdx: guest-linear address
 * @rsi: CS selector, access rights and limit
 * @rdi: CS base
 * @r8: guest-physical address
 * @r9: exit interruption information (low half) and its error code
 * @r10: IDT-vectoring information (low half) and its error code
 * @r11: instruction information (low half) and instruction length
 * @r12: privilege level of the lower VTL
 * @r13: extended exit qualification
 */
struct mshv_tdx_exit_info {
	__u64 rax;
	__u64 rcx;
	__u64 rdx;
	__u64 rsi;
	__u64 rdi;
	__u64 r8;
	__u64 r9;
	__u64 r10;
	__u64 r11;
	__u64 r12;
	__u64 r13;
};

/**
 * struct mshv_tdx_vp_state - Registers that the TDX module does not switch
 * @msr_kernel_gs_base: IA32_KERNEL_GS_BASE, canonical for the processor
 * @msr_star: IA32_STAR
 * @msr_lstar: IA32_LSTAR, canonical for the processor
 * @msr_sfmask: IA32_FMASK, high half zero
 * @msr_xss: IA32_XSS: CET_U and CET_S, if the processor has them
 * @cr2: CR2
 * @msr_tsc_aux: IA32_TSC_AUX, high half zero
 * @flags: MSHV_TDX_VP_*
 *
 * Loaded at entry, and stored when the lower VTL stops. What was stored can be
 * loaded again.
 */
struct mshv_tdx_vp_state {
	__u64 msr_kernel_gs_base;
	__u64 msr_star;
	__u64 msr_lstar;
	__u64 msr_sfmask;
	__u64 msr_xss;
	__u64 cr2;
	__u64 msr_tsc_aux;
	__u64 flags;
};

/* Write back and invalidate caches before the entry. */
#define MSHV_TDX_VP_WBINVD (1ULL << 0)
/* Write back caches before the entry. */
#define MSHV_TDX_VP_WBNOINVD (1ULL << 1)

/**
 * struct mshv_tdx_l2_enter_guest_state - L2_ENTER_GUEST_STATE of TDG.VP.ENTER
 * @gpr: general registers in the order rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi,
 *	r8 to r15
 * @rflags: RFLAGS
 * @rip: RIP
 * @ssp: shadow-stack pointer
 * @rvi: highest requesting virtual interrupt
 * @svi: highest virtual interrupt in service
 * @reserved: ignored
 *
 * The TDX module itself reads it at entry and writes it when the lower VTL
 * stops.
 */
struct mshv_tdx_l2_enter_guest_state {
	__u64 gpr[16];
	__u64 rflags;
	__u64 rip;
	__u64 ssp;
	__u8 rvi;
	__u8 svi;
	__u8 reserved[6];
};

/**
 * struct mshv_tdx_l2_tsc_deadline - Timer of the lower VTL
 * @deadline: TSC value
 * @update: bit 0: program it before the entry
 * @reserved: zero
 */
struct mshv_tdx_l2_tsc_deadline {
	__u64 deadline;
	__u8 update;
	__u8 reserved[7];
};

/**
 * struct mshv_tdx_vp_context - TDX part of the run page
 * @exit_info: why the lower VTL stopped
 * @pad1: unused
 * @vp_state: registers that the module switches
 * @pad2: unused
 * @entry_rcx: RCX of TDG.VP.ENTER, see MSHV_TDX_ENTRY_*
 * @l2_enter_guest_state: general registers of the lower VTL
 * @l2_tsc_deadline: timer of the lower VTL
 * @pad3: unused
 * @fx_state: x87 and SSE state in FXSAVE format, with a valid MXCSR
 * @pad4: unused
 */
struct mshv_tdx_vp_context {
	struct mshv_tdx_exit_info exit_info;
	__u8 pad1[48];
	struct mshv_tdx_vp_state vp_state;
	__u8 pad2[32];
	__u64 entry_rcx;
	struct mshv_tdx_l2_enter_guest_state l2_enter_guest_state;
	struct mshv_tdx_l2_tsc_deadline l2_tsc_deadline;
	__u8 pad3[80];
	__u8 fx_state[512];
	__u8 pad4[16];
};

/*
 * entry_rcx: translations to invalidate at the entry (0 none, 1 everything of
 * the VM, 2 its linear translations, 3 those except global ones), done by exactly
 * one successful entry and then cleared; and the VM to run (1 is VTL0). All
 * other bits are zero.
 */
#define MSHV_TDX_ENTRY_INVD_MASK 0x3ULL
#define MSHV_TDX_ENTRY_VM_SHIFT 52
#define MSHV_TDX_ENTRY_VM_MASK (0x3ULL << MSHV_TDX_ENTRY_VM_SHIFT)

/**
 * struct mshv_vtl_run - The run page, shared by kernel and userspace
 * @cancel: if not zero, do not enter the lower VTL, but return EINTR. Userspace
 *	clears it
 * @vtl_ret_action_size: zero on TDX
 * @flags: MSHV_VTL_RUN_*
 * @scan_proxy_irr: @proxy_irr has bits; set after them, cleared before they are
 *	taken
 * @offload_flags: what the kernel may handle by itself, MSHV_VTL_OFFLOAD_*, and
 *	why the lower VTL is halted, MSHV_VTL_HALT_*
 * @pad: unused
 * @enter_mode: how to wait, a hint
 * @exit_message: not used on TDX
 * @tdx: the TDX part
 * @vtl_ret_actions: not used on TDX
 * @proxy_irr: interrupts requested by the host or by other VPs
 * @target_vtl: not used on TDX
 * @pad1: unused
 * @proxy_irr_blocked: interrupts that the host may not request: initially all, and
 *	again when the last VTL file that mapped the page is closed
 * @proxy_irr_exit_mask: interrupts that exit to userspace
 * @reserved: unused; explicit padding at the end
 */
struct mshv_vtl_run {
	__u32 cancel;
	__u32 vtl_ret_action_size;
	__u32 flags;
	__u8 scan_proxy_irr;
	__u8 offload_flags;
	__u8 pad;
	__u8 enter_mode;
	__u8 exit_message[256];
	struct mshv_tdx_vp_context tdx;
	__u8 vtl_ret_actions[256];
	__u32 proxy_irr[8];
	__u8 target_vtl;
	__u8 pad1[3];
	__u32 proxy_irr_blocked[8];
	__u32 proxy_irr_exit_mask[8];
	__u32 reserved;
};

/**
 * struct mshv_vtl_timer - The timer of VM 1's APIC, in the run page
 * @deadline: value of the guest's IA32_TSC_DEADLINE
 * @vector: of the timer's interrupt, while the kernel is to serve it: in the mode of a TSC
 *	deadline, not masked. 0, as anything below 16: it is userspace's
 * @reserved: not looked at
 *
 * At MSHV_VTL_RUN_TIMER of the run page. A deadline that userspace arms with another
 * value is its own: it and @deadline do not replace each other.
 */
struct mshv_vtl_timer {
	__u64 deadline;
	__u8 vector;
	__u8 reserved[7];
};

/* Offset in the run page of struct mshv_vtl_timer. */
#define MSHV_VTL_RUN_TIMER 4080

/*
 * The lower VTL is halted: sleep instead of entering it, until ``cancel`` is set
 * (EINTR), a signal is pending (EINTR), its deadline passes (an exit with reason
 * 52; an interrupt, if it is that of struct mshv_vtl_timer), ``scan_proxy_irr`` is
 * set (EINTR, except with MSHV_VTL_OFFLOAD_INTR_INJECT), ``offload_flags`` change so
 * that an interrupt ends the halt, or the flag is cleared. A sleeping thread notices
 * a write only when it is kicked.
 */
#define MSHV_VTL_RUN_HALTED (1U << 0)

/*
 * While VM 1 runs: proxied interrupts are posted to its virtual-APIC page; HLT and
 * reads of HV_X64_MSR_GUEST_IDLE halt it without an exit to userspace.
 */
#define MSHV_VTL_OFFLOAD_INTR_INJECT (1U << 0)
/* Its writes of the x2APIC's interrupt command register are carried out, too. */
#define MSHV_VTL_OFFLOAD_X2APIC (1U << 1)
/* Halted for a reason that only userspace can end. */
#define MSHV_VTL_HALT_OTHER (1U << 5)
/* Halted by HLT. */
#define MSHV_VTL_HALT_HLT (1U << 6)
/* Halted by a read of HV_X64_MSR_GUEST_IDLE. */
#define MSHV_VTL_HALT_IDLE (1U << 7)

#endif /* _UAPI_LINUX_MSHV_VTL_TDX_H */
