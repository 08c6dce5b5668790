// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The one edge to the processor: VMRUN, VMLOAD, VMSAVE and the global interrupt flag.
//!
//! `vmrun.S` swaps the general registers; [`crate::vcpu`] is the only caller of [`run`].

// UNSAFETY: instructions of SVM, and the call of an assembly routine.
#![expect(unsafe_code)]

use crate::gprs::Gprs;
use crate::vcpu::Level;
use crate::vmcb::{Save, Vmcb};
use core::arch::{asm, global_asm};
use core::mem::offset_of;

global_asm!(
    include_str!("vmrun.S"),
    RCX = const offset_of!(Gprs, rcx),
    RDX = const offset_of!(Gprs, rdx),
    RBX = const offset_of!(Gprs, rbx),
    RBP = const offset_of!(Gprs, rbp),
    RSI = const offset_of!(Gprs, rsi),
    RDI = const offset_of!(Gprs, rdi),
    R8 = const offset_of!(Gprs, r8),
    R9 = const offset_of!(Gprs, r9),
    R10 = const offset_of!(Gprs, r10),
    R11 = const offset_of!(Gprs, r11),
    R12 = const offset_of!(Gprs, r12),
    R13 = const offset_of!(Gprs, r13),
    R14 = const offset_of!(Gprs, r14),
    R15 = const offset_of!(Gprs, r15),
);

unsafe extern "C" {
    fn svm_vmrun(vmcb_pa: u64, gprs: *mut Gprs, level: u32);
    static svm_vmrun_exit: u8;
    static svm_nmi_window: u8;
    static svm_nmi_window_end: u8;
}

/// Address at which the host continues after #VMEXIT.
pub fn exit_rip() -> u64 {
    core::ptr::addr_of!(svm_vmrun_exit) as u64
}

/// Proof that this processor may execute VMRUN, VMLOAD and VMSAVE.
///
/// Not `Send`: it is true of one processor only.
pub struct VmrunReady(core::marker::PhantomData<*const ()>);

impl VmrunReady {
    /// Declares the processor ready.
    ///
    /// # Safety
    ///
    /// On the processor that keeps the value: EFER.SVME is set, VM_HSAVE_PA names a page used for
    /// nothing else, GIF is clear, memory is identity mapped, every nested page table that a
    /// VMCB will name keeps its guest out of the emulator's memory, and the code around VMRUN
    /// uses no state that VMRUN leaves to the guest (FS, GS, TR, LDTR, SYSCALL registers, FPU).
    pub unsafe fn new() -> Self {
        Self(core::marker::PhantomData)
    }
}

/// Runs a guest until it exits.
pub(crate) fn run(_ready: &VmrunReady, vmcb: &mut Vmcb, gprs: &mut Gprs, level: Level) {
    let vmcb_pa = core::ptr::from_mut(vmcb) as u64;
    // SAFETY: `_ready` was made by a caller of `VmrunReady::new`, which guarantees the state of the
    // processor and the nested page tables; `&mut` gives us both blocks exclusively.
    unsafe { svm_vmrun(vmcb_pa, gprs, level as u32) }
}

/// Stores FS, GS, TR, LDTR and the SYSCALL and SYSENTER registers into a VMCB.
pub fn vmsave(_ready: &VmrunReady, vmcb: &mut Vmcb) {
    let vmcb_pa = core::ptr::from_mut(vmcb) as u64;
    // SAFETY: VMSAVE only writes to the page that it is given, which `&mut` gives us exclusively;
    // SVM is enabled by `VmrunReady::new`.
    unsafe { asm!("vmsave rax", in("rax") vmcb_pa, options(nostack, preserves_flags)) }
}

/// Loads FS, GS, TR, LDTR and the SYSCALL and SYSENTER registers from a VMCB.
pub fn vmload(_ready: &VmrunReady, vmcb: &Vmcb) {
    let vmcb_pa = core::ptr::from_ref(vmcb) as u64;
    // SAFETY: the host uses none of the loaded registers, as `VmrunReady::new` requires.
    unsafe { asm!("vmload rax", in("rax") vmcb_pa, options(nostack, preserves_flags)) }
}

/// Lets the NMI that an exit has reported reach the host's handler, which must set RAX to 1 if
/// [`is_nmi_window`] and return by IRET. Maskable interrupts stay pending, because the host's IF is
/// clear meanwhile. Returns false if no NMI arrives.
///
/// After STGI, TCG checks for events once, and handles a request of the local APIC before an NMI.
/// So the window is opened repeatedly until the handler has run; an NMI that stayed pending would
/// end the next run, and be mistaken for another one.
#[must_use]
pub fn consume_nmi(_ready: &VmrunReady) -> bool {
    const PATIENCE: u64 = 1_000_000;
    let taken: u64;
    // SAFETY: the host has an IDT with an NMI gate, as every user of this crate must before it
    // makes a `VmrunReady`; IF and GIF are put back, and the handler changes RAX alone.
    unsafe { asm!("call {}", sym svm_nmi_window, inout("rcx") PATIENCE => _, out("rax") taken) };
    taken != 0
}

/// Returns true if an NMI with this RIP is the one that [`consume_nmi`] waits for.
pub fn is_nmi_window(rip: u64) -> bool {
    let start = core::ptr::addr_of!(svm_nmi_window) as u64;
    let end = core::ptr::addr_of!(svm_nmi_window_end) as u64;
    (start..end).contains(&rip)
}

/// Copies the registers that the TDX module does not switch between VMs: each VM finds in them what
/// the previous one left. [TDP state not switched]
pub fn leak_shared_syscall_state(from: &Save, to: &mut Save) {
    to.star = from.star;
    to.lstar = from.lstar;
    to.cstar = from.cstar;
    to.sfmask = from.sfmask;
    to.kernel_gs_base = from.kernel_gs_base;
}
