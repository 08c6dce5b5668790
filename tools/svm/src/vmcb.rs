// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The virtual machine control block: the page that tells VMRUN everything. [APM2 appendix B]
//!
//! [`crate::intercept`] names the bits of the first words, [`crate::segment`] converts segment
//! attributes, [`crate::vcpu`] owns one of these per VM and virtual processor.

use crate::intercept::{Exceptions, Misc1, Misc2};
use bitfield_struct::bitfield;
use core::mem::offset_of;

/// One segment register as SVM stores it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    /// Selector.
    pub selector: u16,
    /// Descriptor bits 47:40 and 55:52 packed into 12 bits.
    pub attributes: u16,
    /// Limit in bytes.
    pub limit: u32,
    /// Base address.
    pub base: u64,
}

/// Event to inject (EVENTINJ), and the event whose delivery an exit interrupted (EXITINTINFO).
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct Event {
    /// Vector.
    pub vector: u8,
    /// 0 interrupt, 2 NMI, 3 exception, 4 software interrupt.
    #[bits(3)]
    pub kind: u8,
    /// An error code is pushed.
    pub has_error: bool,
    #[bits(19)]
    _reserved: u32,
    /// The event is valid.
    pub is_valid: bool,
    /// Error code.
    pub error: u32,
}

impl Event {
    /// External interrupt.
    pub const INTERRUPT: u8 = 0;
    /// Non-maskable interrupt.
    pub const NMI: u8 = 2;
    /// Exception.
    pub const EXCEPTION: u8 = 3;
    /// INT n.
    pub const SOFTWARE: u8 = 4;

    /// An exception without error code.
    pub const fn exception(vector: u8) -> Self {
        Self::new()
            .with_vector(vector)
            .with_kind(Self::EXCEPTION)
            .with_is_valid(true)
    }

    /// Corrects the type of an event of an interrupted delivery: TCG reports an interrupt that it
    /// was delivering as an exception. No exception has such a vector.
    #[must_use]
    pub const fn with_true_kind(self) -> Self {
        if self.kind() == Self::EXCEPTION && self.vector() >= 32 {
            return self.with_kind(Self::INTERRUPT);
        }
        self
    }

    /// An exception with an error code.
    pub const fn exception_with_error(vector: u8, error: u32) -> Self {
        Self::exception(vector)
            .with_has_error(true)
            .with_error(error)
    }
}

/// Virtual interrupt control (VMCB offset 60h).
#[bitfield(u64)]
pub struct InterruptControl {
    /// Virtual task priority, the guest's CR8.
    pub v_tpr: u8,
    /// A virtual interrupt is pending.
    pub v_irq: bool,
    /// Virtual global interrupt flag.
    pub v_gif: bool,
    #[bits(6)]
    _r0: u8,
    #[bits(4)]
    pub v_intr_prio: u8,
    /// The virtual interrupt ignores V_TPR.
    pub v_ign_tpr: bool,
    #[bits(3)]
    _r1: u8,
    /// The guest's RFLAGS.IF masks virtual interrupts only; the host's IF masks real ones.
    pub v_intr_masking: bool,
    #[bits(7)]
    _r2: u8,
    pub v_intr_vector: u8,
    #[bits(24)]
    _r3: u32,
}

/// What to intercept, where the maps are, and what happened.
#[repr(C)]
#[derive(Debug)]
#[expect(missing_docs, reason = "names as in the manual")]
pub struct Control {
    pub intercept_cr_read: u16,
    pub intercept_cr_write: u16,
    pub intercept_dr_read: u16,
    pub intercept_dr_write: u16,
    pub intercept_exceptions: Exceptions,
    pub intercept_misc1: Misc1,
    pub intercept_misc2: Misc2,
    pub intercept_misc3: u32,
    _pad0: [u8; 0x24],
    pub pause_filter_threshold: u16,
    pub pause_filter_count: u16,
    pub iopm_base_pa: u64,
    pub msrpm_base_pa: u64,
    pub tsc_offset: u64,
    pub guest_asid: u32,
    pub tlb_control: u32,
    pub int_ctl: InterruptControl,
    pub int_state: u64,
    pub exit_code: u64,
    pub exit_info_1: u64,
    pub exit_info_2: u64,
    pub exit_int_info: Event,
    pub nested_ctl: u64,
    pub avic_apic_bar: u64,
    pub ghcb_pa: u64,
    pub event_inj: Event,
    pub nested_cr3: u64,
    pub lbr_ctl: u64,
    pub clean: u64,
    pub next_rip: u64,
    pub insn_len: u8,
    pub insn_bytes: [u8; 15],
    _pad1: [u8; 0x320],
}

/// Guest state.
#[repr(C)]
#[derive(Debug)]
#[expect(missing_docs, reason = "register names")]
pub struct Save {
    pub es: Segment,
    pub cs: Segment,
    pub ss: Segment,
    pub ds: Segment,
    pub fs: Segment,
    pub gs: Segment,
    pub gdtr: Segment,
    pub ldtr: Segment,
    pub idtr: Segment,
    pub tr: Segment,
    _pad0: [u8; 0x2b],
    pub cpl: u8,
    _pad1: [u8; 4],
    pub efer: u64,
    _pad2: [u8; 0x70],
    pub cr4: u64,
    pub cr3: u64,
    pub cr0: u64,
    pub dr7: u64,
    pub dr6: u64,
    pub rflags: u64,
    pub rip: u64,
    _pad3: [u8; 0x58],
    pub rsp: u64,
    pub s_cet: u64,
    pub ssp: u64,
    pub isst_addr: u64,
    pub rax: u64,
    pub star: u64,
    pub lstar: u64,
    pub cstar: u64,
    pub sfmask: u64,
    pub kernel_gs_base: u64,
    pub sysenter_cs: u64,
    pub sysenter_esp: u64,
    pub sysenter_eip: u64,
    pub cr2: u64,
    _pad4: [u8; 0x20],
    pub g_pat: u64,
    pub dbgctl: u64,
    _pad5: [u8; 0x988],
}

/// One VMCB, exactly one page.
#[repr(C, align(4096))]
#[derive(Debug)]
pub struct Vmcb {
    /// Control area.
    pub control: Control,
    /// State save area.
    pub save: Save,
}

/// Bit of `nested_ctl`: nested paging on.
pub const NESTED_PAGING: u64 = 1;
/// Bit of `int_state`: the instruction at RIP is in an STI or MOV SS shadow.
pub const INTERRUPT_SHADOW: u64 = 1;

macro_rules! offsets {
    ($type:ty: $($field:ident = $offset:expr),+ $(,)?) => {
        $(const _: () = assert!(offset_of!($type, $field) == $offset);)+
    };
}

const _: () = assert!(size_of::<Vmcb>() == 4096 && size_of::<Segment>() == 16);
const _: () = assert!(size_of::<Control>() == 0x400);
offsets!(Vmcb: control = 0, save = 0x400);
offsets!(Control: intercept_cr_read = 0, intercept_cr_write = 2, intercept_dr_read = 4,
    intercept_dr_write = 6, intercept_exceptions = 8, intercept_misc1 = 0xc,
    intercept_misc2 = 0x10, intercept_misc3 = 0x14, pause_filter_threshold = 0x3c,
    pause_filter_count = 0x3e, iopm_base_pa = 0x40, msrpm_base_pa = 0x48, tsc_offset = 0x50,
    guest_asid = 0x58, tlb_control = 0x5c, int_ctl = 0x60, int_state = 0x68, exit_code = 0x70,
    exit_info_1 = 0x78, exit_info_2 = 0x80, exit_int_info = 0x88, nested_ctl = 0x90,
    avic_apic_bar = 0x98, ghcb_pa = 0xa0, event_inj = 0xa8, nested_cr3 = 0xb0, lbr_ctl = 0xb8,
    clean = 0xc0, next_rip = 0xc8, insn_len = 0xd0, insn_bytes = 0xd1);
offsets!(Save: es = 0, cs = 0x10, ss = 0x20, ds = 0x30, fs = 0x40, gs = 0x50, gdtr = 0x60,
    ldtr = 0x70, idtr = 0x80, tr = 0x90, cpl = 0xcb, efer = 0xd0, cr4 = 0x148, cr3 = 0x150,
    cr0 = 0x158, dr7 = 0x160, dr6 = 0x168, rflags = 0x170, rip = 0x178, rsp = 0x1d8,
    s_cet = 0x1e0, ssp = 0x1e8, isst_addr = 0x1f0, rax = 0x1f8, star = 0x200, lstar = 0x208,
    cstar = 0x210, sfmask = 0x218, kernel_gs_base = 0x220, sysenter_cs = 0x228,
    sysenter_esp = 0x230, sysenter_eip = 0x238, cr2 = 0x240, g_pat = 0x268, dbgctl = 0x270);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_has_the_bits_of_the_manual() {
        let event = u64::from(Event::exception_with_error(14, 0x1234));
        assert_eq!(event, 0x0000_1234_8000_0b0e);
        assert_eq!(u64::from(Event::exception(20)), 0x8000_0314);
    }

    #[test]
    fn an_interrupted_interrupt_is_none_of_the_exceptions() {
        let kind = |vector| Event::exception(vector).with_true_kind().kind();
        assert_eq!((kind(14), kind(31)), (Event::EXCEPTION, Event::EXCEPTION));
        assert_eq!((kind(32), kind(255)), (Event::INTERRUPT, Event::INTERRUPT));
        let soft = Event::exception(0x80).with_kind(Event::SOFTWARE);
        assert_eq!(soft.with_true_kind(), soft);
    }

    #[test]
    fn interrupt_masking_is_bit_24() {
        assert_eq!(
            u64::from(InterruptControl::new().with_v_intr_masking(true)),
            1 << 24
        );
        assert_eq!(u64::from(InterruptControl::new().with_v_irq(true)), 1 << 8);
        assert_eq!(
            u64::from(InterruptControl::new().with_v_ign_tpr(true)),
            1 << 20
        );
        assert_eq!(
            u64::from(InterruptControl::new().with_v_intr_vector(1)),
            1 << 32
        );
    }
}
