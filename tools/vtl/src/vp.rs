// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! One virtual processor: bound to its CPU and to this thread, its run page,
//! its L2 VMCS, and the run request.
//!
//! Made by [`crate::device::Vtl::bind`]; start states are in [`crate::start`],
//! what a run ends with in [`crate::exit`].

use core::marker::PhantomData;

use rustix::io::Errno;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::abi::{ExitInfo, Tdcall};
use crate::device::Vtl;
use crate::field::{self, L2Field};
use crate::run_page::{Canceller, RunPage};
use crate::tdcall::{check, leaf};
use crate::{Error, Exit, Result, Status, XsaveImage, sys};

/// An L2 VM of this TD.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vm(u8);

impl Vm {
    /// VM 1, where VTL0 runs.
    pub const VTL0: Self = Self(1);
    /// VM 2, where VTL1 runs.
    pub const VTL1: Self = Self(2);
    /// VM 3, not used by Hyper-V's levels.
    pub const THIRD: Self = Self(3);

    /// The VM index, 1 to 3.
    pub const fn index(self) -> u64 {
        // CAST: widening.
        self.0 as u64
    }
}

/// An exception to raise in the lower VTL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exception {
    /// #UD.
    InvalidOpcode,
    /// #GP(0).
    GeneralProtection,
}

impl Exception {
    /// VM-entry interruption information of this hardware exception.
    const fn entry_info(self) -> u64 {
        const VALID: u64 = 1 << 31;
        const HARDWARE_EXCEPTION: u64 = 3 << 8;
        const DELIVER_ERROR_CODE: u64 = 1 << 11;
        match self {
            Self::InvalidOpcode => VALID | HARDWARE_EXCEPTION | 6,
            Self::GeneralProtection => VALID | HARDWARE_EXCEPTION | DELIVER_ERROR_CODE | 13,
        }
    }
}

/// An event whose delivery an exit cut off, as it goes into the L2 VMCS again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Redelivery {
    entry_info: u64,
    error_code: u64,
    instruction_length: u64,
}

impl Redelivery {
    /// The event of an exit after the lower VTL ran, from the IDT-vectoring
    /// information in the low half of R10 [ABI TDG.VP.ENTER].
    fn of(info: &ExitInfo) -> Option<Self> {
        const VALID: u64 = 1 << 31;
        /// Undefined in the vectoring information, reserved in the entry's.
        const BIT_12: u64 = 1 << 12;
        let did_not_run = Status::from_raw(info.rax).code() >= Status::PENDING_INTERRUPT;
        if did_not_run || info.r10 & VALID == 0 {
            return None;
        }
        Some(Self {
            entry_info: info.r10 & 0xffff_ffff & !BIT_12,
            error_code: info.r10 >> 32,
            instruction_length: info.r11 >> 32,
        })
    }

    const fn is_nmi(self) -> bool {
        (self.entry_info >> 8) & 7 == 2
    }

    const fn has_error_code(self) -> bool {
        self.entry_info & (1 << 11) != 0
    }

    /// Software interrupts and exceptions, whose instruction has a length.
    const fn is_software(self) -> bool {
        matches!((self.entry_info >> 8) & 7, 4..=6)
    }
}

/// RCX of TDG.VP.ENTER: where the VM index is.
const ENTRY_VM_SHIFT: u32 = 52;
/// RCX of TDG.VP.ENTER: the translations to invalidate first.
const ENTRY_INVD_MASK: u64 = 3;
/// Everything cached for this VM on this CPU (INVEPT, single context).
const ENTRY_INVD_ALL: u64 = 1;

/// A virtual processor. The thread stays on its CPU until this is dropped.
#[derive(Debug)]
pub struct Vp {
    vtl: Vtl,
    cpu: u32,
    vm: Vm,
    page: RunPage,
    affinity_before: CpuSet,
    /// The binding is a property of this thread.
    not_send: PhantomData<*const ()>,
}

impl Vp {
    pub(crate) fn bind(vtl: Vtl, cpu: u32, vm: Vm) -> Result<Self> {
        let bind_error = |errno| Error::Bind { cpu, errno };
        let affinity_before = sched_getaffinity(None).map_err(bind_error)?;
        let mut only_this = CpuSet::new();
        // CAST: widening.
        let cpu_index = cpu as usize;
        if cpu_index >= CpuSet::MAX_CPU {
            return Err(bind_error(Errno::INVAL));
        }
        only_this.set(cpu_index);
        sched_setaffinity(None, &only_this).map_err(bind_error)?;
        let page = vtl.map_run_page(cpu).inspect_err(|_| {
            let _ = sched_setaffinity(None, &affinity_before);
        })?;
        let vp = Self {
            vtl,
            cpu,
            vm,
            page,
            affinity_before,
            not_send: PhantomData,
        };
        vp.reset_page();
        Ok(vp)
    }

    /// The Linux CPU number, which is the VP index.
    pub fn cpu(&self) -> u32 {
        self.cpu
    }

    /// The VM this processor runs.
    pub fn vm(&self) -> Vm {
        self.vm
    }

    /// The page shared with the kernel.
    pub fn page(&self) -> &RunPage {
        &self.page
    }

    /// A handle that cancels the run from another thread.
    pub fn canceller(&self) -> Canceller {
        self.page.canceller()
    }

    /// Clears the run page; the next entry flushes cached translations.
    pub(crate) fn reset_page(&self) {
        self.page
            .reset((self.vm.index() << ENTRY_VM_SHIFT) | ENTRY_INVD_ALL);
    }

    /// Makes this virtual processor new for another guest: what the kernel keeps of
    /// lower VTLs, and of each of the `num_l2_vms` VMs the MSRs that pass without an
    /// exit (none) and L2_CTLS (zero). Other fields of the L2 VMCS, and rights in
    /// memory, stay.
    ///
    /// # Errors
    /// [`Error::Query`], or [`Error::Tdcall`] with the status.
    pub fn renew(&mut self, num_l2_vms: u32) -> Result<()> {
        sys::query::<{ crate::abi::command::VTL_RESET }>(self.vtl.fd(), 0, &mut [0]).map_err(
            |errno| Error::Query {
                what: "a reset",
                errno,
            },
        )?;
        let all = [Vm::VTL0, Vm::VTL1, Vm::THIRD];
        let vms = all.into_iter().zip(0..num_l2_vms).map(|(vm, _)| vm);
        for vm in vms {
            for word in 0..field::MSR_BITMAP_WORDS {
                self.write_id(field::msr_bitmap(vm, word), u64::MAX, u64::MAX)?;
            }
            self.write_id(field::l2_ctls(vm), 0, field::L2_CTLS_MASK)?;
        }
        self.reset_page();
        Ok(())
    }

    /// Lets the lower VTL run until something is to be handled here.
    ///
    /// # Errors
    /// [`Error::EntryRefused`] with the TDX module's status, [`Error::Run`]
    /// with the kernel's errno otherwise.
    pub fn run(&mut self) -> Result<Exit<'_>> {
        match sys::return_to_lower_vtl(self.vtl.fd()) {
            Ok(()) => {}
            Err(Errno::INTR) => return Ok(Exit::Interrupted),
            Err(Errno::IO) => {
                return Err(Error::EntryRefused(Status::from_raw(
                    self.page.exit_info().rax,
                )));
            }
            Err(errno) => return Err(Error::Run { errno }),
        }
        let redelivery = Redelivery::of(&self.page.exit_info());
        if let Some(redelivery) = redelivery {
            self.redeliver(redelivery)?;
        }
        let exit = Exit::decode(self);
        if !matches!(exit, Exit::NotEntered(_)) {
            // One entry has done the flush that was asked for.
            self.page
                .set_entry_rcx(self.page.entry_rcx() & !ENTRY_INVD_MASK);
        }
        Ok(exit)
    }

    /// Reads a field of the L2 VMCS [ABI TDG.VP.RD].
    ///
    /// # Errors
    /// [`Error::Tdcall`] with the status.
    pub fn read(&self, field: L2Field) -> Result<u64> {
        self.vtl
            .read_field("TDG.VP.RD", leaf::TDG_VP_RD, field.id(self.vm))
    }

    /// Writes a whole field of the L2 VMCS [ABI TDG.VP.WR].
    ///
    /// # Errors
    /// [`Error::Tdcall`] with the status.
    pub fn write(&self, field: L2Field, value: u64) -> Result<()> {
        self.write_masked(field, value, field.full_mask())
    }

    /// Writes the bits of `mask` of a field of the L2 VMCS.
    ///
    /// # Errors
    /// [`Error::Tdcall`] with the status.
    pub fn write_masked(&self, field: L2Field, value: u64, mask: u64) -> Result<()> {
        self.write_id(field.id(self.vm), value, mask)
    }

    /// Writes a per-VP field by its id.
    ///
    /// # Errors
    /// [`Error::Tdcall`] with the status.
    pub fn write_id(&self, field_id: u64, value: u64, mask: u64) -> Result<()> {
        let mut call = Tdcall {
            rax: leaf::TDG_VP_WR,
            rdx: field_id,
            r8: value,
            r9: mask,
            ..Tdcall::default()
        };
        self.vtl.tdcall(&mut call)?;
        check("TDG.VP.WR", field_id, Status::from_raw(call.rax))
    }

    /// Puts an event back that an exit cut off, ahead of whatever the exit is
    /// answered with.
    fn redeliver(&self, redelivery: Redelivery) -> Result<()> {
        const BLOCKING_BY_NMI: u64 = 1 << 3;
        if redelivery.is_nmi() {
            // The entry delivers no NMI while NMIs are blocked.
            self.write_masked(L2Field::GUEST_INTERRUPTIBILITY, 0, BLOCKING_BY_NMI)?;
        }
        // What the event does not have is undefined, and need not be a value that can be written.
        if redelivery.has_error_code() {
            self.write(L2Field::ENTRY_EXCEPTION_ERROR_CODE, redelivery.error_code)?;
        }
        if redelivery.is_software() {
            self.write(
                L2Field::ENTRY_INSTRUCTION_LENGTH,
                redelivery.instruction_length,
            )?;
        }
        self.write(L2Field::ENTRY_INTERRUPTION_INFO, redelivery.entry_info)
    }

    /// Raises `exception` at the next entry, before the next instruction.
    ///
    /// # Errors
    /// [`Error::Tdcall`] with the status.
    pub fn inject(&self, exception: Exception) -> Result<()> {
        const CR0_PE: u64 = 1;
        const DELIVER_ERROR_CODE: u64 = 1 << 11;
        let mut info = exception.entry_info();
        // In real mode an exception pushes no error code, and the entry checks
        // refuse to deliver one.
        if self.read(L2Field::GUEST_CR0)? & CR0_PE == 0 {
            info &= !DELIVER_ERROR_CODE;
        }
        self.write(L2Field::ENTRY_EXCEPTION_ERROR_CODE, 0)?;
        self.write(L2Field::ENTRY_INTERRUPTION_INFO, info)
    }
}

/// The extended state is one for all lower VTLs.
impl Vp {
    /// The extended state as the lower VTLs have it.
    ///
    /// # Errors
    /// [`Error::Xsave`].
    pub fn extended_state(&self) -> Result<XsaveImage> {
        let mut image = self.initial_extended_state()?;
        sys::xsave_get(self.vtl.fd(), Some(&mut image)).map_err(|errno| Error::Xsave { errno })?;
        Ok(image)
    }

    /// Replaces the extended state. An image of [`Self::extended_state`] passes,
    /// on every virtual processor of a machine with the same components.
    ///
    /// # Errors
    /// [`Error::Xsave`]; then nothing has changed.
    pub fn set_extended_state(&self, image: &XsaveImage) -> Result<()> {
        sys::xsave_set(self.vtl.fd(), image).map_err(|errno| Error::Xsave { errno })
    }

    /// The extended state of a processor after reset.
    ///
    /// # Errors
    /// [`Error::Xsave`].
    pub fn initial_extended_state(&self) -> Result<XsaveImage> {
        let (size, xfeatures) =
            sys::xsave_get(self.vtl.fd(), None).map_err(|errno| Error::Xsave { errno })?;
        Ok(XsaveImage::initial(size, xfeatures))
    }

    /// Clears what an earlier guest left in it. A module that can't do that runs
    /// guests all the same.
    pub(crate) fn reset_extended_state(&self) -> Result<()> {
        match self.initial_extended_state() {
            Ok(image) => self.set_extended_state(&image),
            Err(Error::Xsave {
                errno: Errno::NOTTY,
            }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

impl Drop for Vp {
    fn drop(&mut self) {
        // Nothing sensible can be done if the old CPUs have gone offline.
        let _ = sched_setaffinity(None, &self.affinity_before);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    #[test]
    fn an_event_that_was_cut_off_is_delivered_again() {
        let info = ExitInfo {
            rax: (0x1102 << 32) | 1,
            r10: (0x18 << 32) | 0x8000_1b0d,
            r11: 2 << 32,
            ..ExitInfo::default()
        };
        let expected = Redelivery {
            entry_info: 0x8000_0b0d,
            error_code: 0x18,
            instruction_length: 2,
        };
        assert_eq!(Redelivery::of(&info), Some(expected));
        assert!(!expected.is_nmi());
    }

    #[test]
    fn an_entry_that_did_not_happen_leaves_nothing_to_deliver() {
        let stale = ExitInfo {
            rax: 0x1120 << 32,
            r10: 0x8000_0b0d,
            ..ExitInfo::default()
        };
        assert_eq!(Redelivery::of(&stale), None);
        let none = ExitInfo {
            rax: 10,
            r10: 0x7fff_0b0d,
            ..ExitInfo::default()
        };
        assert_eq!(Redelivery::of(&none), None);
    }

    #[test]
    fn injected_exceptions_are_hardware_exceptions() {
        assert_eq!(Exception::GeneralProtection.entry_info(), 0x8000_0b0d);
        assert_eq!(Exception::InvalidOpcode.entry_info(), 0x8000_0306);
    }
}
