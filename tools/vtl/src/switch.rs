// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! VTL0 and VTL1 of one virtual processor: calls and returns, carried out by the kernel or here.
//!
//! `page` is the switch page, `call` decides if a VMCALL is a VTL call or return, and [`VtlPair`]
//! runs both VTLs and carries out the switches that the kernel leaves.

mod call;
mod page;

use std::rc::Rc;

use crate::abi::ExitInfo;
use crate::run_page::{Gpr, Halt, RunPage, SwitchedState};
use crate::vapic::{ApicRegister, VapicPage};
use crate::vp::{self, Mode, Vm, Vp};
use crate::{Error, Exit, LowerMemory, Result, sys};

pub use call::Direction;
pub use page::{Left, PrivateState, SwitchEnable, SwitchPage};

/// Offset of the entry reason in VTL1's assist page, and the reason for a call.
const ENTRY_REASON: u64 = 0x08;
const REASON_CALL: u32 = 1;
/// Offset of VINA, one byte; asserted if bit 0 is set.
const VINA: u64 = 0x0c;
/// Offset of RAX and RCX of VTL0 after a return that is not fast.
const RETURN_REGISTERS: u64 = 0x10;

/// VTL0 and VTL1 of one virtual processor, which call each other.
///
/// The kernel carries out VTL calls and returns in the common case, as far as
/// [`Self::set_enable`] allows it, and [`Self::run`] carries out the others. The result is the same.
///
/// ```no_run
/// use vtl::{Exit, GpaRange, LowerMemory, Mode, SwitchEnable, Vm, Vtl, VtlPair};
///
/// # fn main() -> Result<(), vtl::Error> {
/// let vtl = Vtl::open()?;
/// let vtl0 = vtl.bind(0, Vm::VTL0)?;
/// vtl0.reset(Mode::Long64 { cr3: 0x8001_0000 }, 0x8001_4000)?;
/// let assist = LowerMemory::map(GpaRange::new(0x8000_1000, 0x1000)?)?;
/// let mut pair = VtlPair::new(vtl0, assist)?;
/// pair.start_vtl1(Mode::Long64 { cr3: 0x8000_2000 }, 0x8000_6000, 0x8000_8000)?;
/// pair.set_enable(SwitchEnable::new().with_calls(true).with_returns(true));
/// loop {
///     match pair.run()? {
///         (Vm::VTL1, Exit::Halt(_)) => break,
///         (vm, exit) => println!("{vm:?}: {}", exit.name()),
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct VtlPair {
    vtl0: Vp,
    vtl1: Vp,
    page: SwitchPage,
    vapic: VapicPage,
    assist: Rc<LowerMemory>,
}

/// How [`VtlPair::turn`] ended.
#[derive(Debug)]
pub enum Turn<'a> {
    /// An exit, and the VTL whose exit it is.
    Exit(Vm, Exit<'a>),
    /// The other VTL is [`VtlPair::current`] now, and has not run yet.
    Switched,
}

/// The same, before the exit is decoded; `None` if the run was interrupted.
enum Step {
    Exit(Vm, Option<ExitInfo>),
    Switched,
}

impl VtlPair {
    /// Takes over the virtual processor of `vtl0`, whose registers are in the run page, and VTL1's
    /// assist page, the first 4096 bytes of `assist`. VTL1's private state is zero
    /// ([`Self::start_vtl1`]). Nothing is enabled.
    ///
    /// # Errors
    /// [`Error::Map`], [`Error::OutOfRange`] for an `assist` that is too short, or
    /// [`Error::Command`] if the kernel can't switch.
    pub fn new(vtl0: Vp, assist: LowerMemory) -> Result<Self> {
        const PAGE_LEN: u64 = 0x1000;
        let page = vtl0.vtl().map_switch_page(vtl0.cpu())?;
        let vapic = vtl0.vtl().map_vapic_page(vtl0.cpu())?;
        assist.read(PAGE_LEN - 1, &mut [0])?;
        // The kernel accesses the assist page with page faults disabled: populate the mapping.
        let mut reason = [0; 4];
        assist.read(ENTRY_REASON, &mut reason)?;
        assist.write(ENTRY_REASON, &reason)?;
        // CAST: an address.
        let address = assist.as_ptr().expose_provenance() as u64;
        sys::set_up_switch(vtl0.vtl(), vtl0.cpu(), address)
            .map_err(Error::command("VTL_SWITCH_SETUP"))?;
        page.set_enable(SwitchEnable::new());
        page.set_parked(Vm::VTL1, &PrivateState::default());
        page.request_flush(Vm::VTL0);
        page.request_flush(Vm::VTL1);
        vtl0.page().aim(Vm::VTL0);
        Ok(Self {
            vtl1: vtl0.sibling(Vm::VTL1),
            vtl0,
            page,
            vapic,
            assist: Rc::new(assist),
        })
    }

    /// Puts VTL1 into its start state: its first call begins at `rip`. Only while VTL0 is
    /// [`Self::current`].
    ///
    /// # Errors
    /// [`Error::Tdcall`] for the first field that the TDX module refused.
    pub fn start_vtl1(&self, mode: Mode, rip: u64, rsp: u64) -> Result<()> {
        /// Interrupts disabled.
        const RFLAGS: u64 = 1 << 1;
        let run_page = self.vtl0.page();
        let registers = run_page.registers();
        let result = self.vtl1.start(mode, rip);
        run_page.set_registers(&registers);
        let state = PrivateState {
            rip,
            rsp,
            rflags: RFLAGS,
            ..PrivateState::default()
        };
        self.page.set_parked(Vm::VTL1, &state);
        result
    }

    /// Sets what the kernel may handle by itself, from the next run on.
    pub fn set_enable(&self, enable: SwitchEnable) {
        self.page.set_enable(enable);
    }

    /// The switch page. [`SwitchPage::parked`] of the VTL that is not [`Self::current`] is its
    /// private state.
    pub fn page(&self) -> &SwitchPage {
        &self.page
    }

    /// The handle of one VTL, for fields of its L2 VMCS.
    pub fn vp(&self, vm: Vm) -> &Vp {
        if vm == Vm::VTL1 {
            &self.vtl1
        } else {
            &self.vtl0
        }
    }

    /// The VTL whose state is in the run page, which the next run enters.
    pub fn current(&self) -> Vm {
        self.vtl0.page().aimed_at()
    }

    /// Runs both until there is an exit that is neither a VTL call nor a return; returns it, and the
    /// VTL whose exit it is.
    ///
    /// An invalid call or return, by its registers or the processor's mode, is an [`Exit::Vmcall`]
    /// like any other. So is a call while [`SwitchEnable::vina`] is set, VTL0 could accept an
    /// interrupt, and VTL1 has not been notified of it: after the notification, run again.
    ///
    /// # Errors
    /// Those of [`Vp::run`].
    pub fn run(&mut self) -> Result<(Vm, Exit<'_>)> {
        loop {
            if let Step::Exit(vm, info) = self.step()? {
                return Ok((vm, self.finish(vm, info)?));
            }
        }
    }

    /// Like [`Self::run`], but also returns after each switch that the kernel left, before the other
    /// VTL is entered: for what has to happen between a return and VTL0's next instruction.
    ///
    /// # Errors
    /// Those of [`Vp::run`].
    pub fn turn(&mut self) -> Result<Turn<'_>> {
        Ok(match self.step()? {
            Step::Switched => Turn::Switched,
            Step::Exit(vm, info) => Turn::Exit(vm, self.finish(vm, info)?),
        })
    }

    fn step(&mut self) -> Result<Step> {
        // The kernel may enter the other one as well.
        let other = match self.current() {
            Vm::VTL1 => Vm::VTL0,
            _ => Vm::VTL1,
        };
        if self.vp(other).is_flush_due() {
            self.page.request_flush(other);
        }
        let info = self.vp(self.current()).enter()?;
        // The kernel may have switched, any number of times.
        let vm = self.current();
        Ok(match info {
            Some(info) if self.switch_vtl_state(vm, &info)? => Step::Switched,
            info => Step::Exit(vm, info),
        })
    }

    fn finish(&self, vm: Vm, info: Option<ExitInfo>) -> Result<Exit<'_>> {
        match info {
            Some(info) => self.vp(vm).finish(info),
            None => Ok(Exit::Interrupted),
        }
    }

    /// Carries out a switch that the kernel left. Returns false, with nothing changed, if the exit
    /// is not one.
    fn switch_vtl_state(&mut self, vm: Vm, info: &ExitInfo) -> Result<bool> {
        let run_page = self.vtl0.page().clone();
        let Some((direction, next_rip)) = call::decide(vm, info, &run_page) else {
            return Ok(false);
        };
        let target = self.page.parked(direction.target());
        if target.halt == Some(Halt::Userspace) || self.has_to_notify(direction)? {
            return Ok(false);
        }
        // What can fail comes first.
        let registers = self.access_assist(direction)?;
        let leaving = PrivateState {
            rip: next_rip,
            halt: None,
            ..run_page.private_state()
        };
        self.page.set_parked(vm, &leaving);
        run_page.set_private_state(&target);
        if let Some([rax, rcx]) = registers {
            run_page.set_gpr(Gpr::Rax, rax);
            run_page.set_gpr(Gpr::Rcx, rcx);
        }
        if run_page.aim(direction.target()) {
            // It was requested for the VM that leaves.
            vp::flush_all_vms();
        }
        Ok(true)
    }

    /// Returns true if VTL1 has to be notified of an interrupt for VTL0 before it is called.
    fn has_to_notify(&self, direction: Direction) -> Result<bool> {
        if direction != Direction::Call || !self.page.enable().vina() {
            return Ok(false);
        }
        // CAST: the task priority is the low byte.
        let tpr = self.vapic.read(ApicRegister::Tpr) as u8;
        let mut notified = [0];
        self.assist.read(VINA, &mut notified)?;
        let could_take = self.vtl0.page().private_state().could_take(tpr);
        Ok(could_take && notified[0] & 1 == 0)
    }

    /// Tells VTL1 that it is called, or reads what it returns in VTL0's RAX and RCX.
    fn access_assist(&self, direction: Direction) -> Result<Option<[u64; 2]>> {
        if direction == Direction::Call {
            let reason = REASON_CALL.to_le_bytes();
            self.assist.write(ENTRY_REASON, &reason)?;
            return Ok(None);
        }
        let registers = match direction {
            Direction::Return => {
                let mut bytes = [[0; 8]; 2];
                self.assist
                    .read(RETURN_REGISTERS, bytes.as_flattened_mut())?;
                Some(bytes.map(u64::from_le_bytes))
            }
            _ => None,
        };
        let enable = self.page.enable();
        if enable.vina() && enable.vina_auto_reset() {
            self.assist.write(VINA, &[0])?;
        }
        Ok(registers)
    }
}

impl Drop for VtlPair {
    fn drop(&mut self) {
        // The kernel must not write to what is mapped there later. EBUSY: another thread runs the
        // virtual processor.
        if sys::set_up_switch(self.vtl0.vtl(), self.vtl0.cpu(), 0).is_err() {
            core::mem::forget(Rc::clone(&self.assist));
        }
    }
}

impl RunPage {
    /// The private state of the lower VTL that ran last.
    pub fn private_state(&self) -> PrivateState {
        let (rvi, svi) = self.interrupt_status();
        PrivateState {
            rsp: self.gpr(Gpr::Rsp),
            rip: self.rip(),
            rflags: self.rflags(),
            ssp: self.ssp(),
            rvi,
            svi,
            halt: self.halt(),
            kernel_gs_base: self.switched(SwitchedState::KernelGsBase),
            star: self.switched(SwitchedState::Star),
            lstar: self.switched(SwitchedState::Lstar),
            sfmask: self.switched(SwitchedState::Sfmask),
            xss: self.switched(SwitchedState::Xss),
            tsc_aux: self.switched(SwitchedState::TscAux),
        }
    }

    /// Sets the private state of the lower VTL that is entered next, and no shared register.
    pub fn set_private_state(&self, state: &PrivateState) {
        let PrivateState {
            rsp,
            rip,
            rflags,
            ssp,
            rvi,
            svi,
            halt,
            kernel_gs_base,
            star,
            lstar,
            sfmask,
            xss,
            tsc_aux,
        } = *state;
        self.set_gpr(Gpr::Rsp, rsp);
        self.set_rip(rip);
        self.set_rflags(rflags);
        self.set_ssp(ssp);
        self.set_interrupt_status(rvi, svi);
        self.set_halt(halt);
        self.set_switched(SwitchedState::KernelGsBase, kernel_gs_base);
        self.set_switched(SwitchedState::Star, star);
        self.set_switched(SwitchedState::Lstar, lstar);
        self.set_switched(SwitchedState::Sfmask, sfmask);
        self.set_switched(SwitchedState::Xss, xss);
        self.set_switched(SwitchedState::TscAux, tsc_aux);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run_page::tests::loose_page;
    use crate::run_page::{Halt, Registers};

    #[test]
    fn private_state_comes_back_and_shared_registers_stay()
    -> core::result::Result<(), rustix::io::Errno> {
        let page = loose_page()?;
        let shared = Registers {
            gprs: core::array::from_fn(|number| 100 + number as u64),
            ..Registers::default()
        };
        page.set_registers(&shared);
        page.set_switched(SwitchedState::Cr2, 7);
        let state = PrivateState {
            rsp: 1,
            rip: 2,
            rflags: 0x206,
            ssp: 3,
            rvi: 4,
            svi: 5,
            halt: Some(Halt::GuestIdle),
            kernel_gs_base: 6,
            star: 7,
            lstar: 8,
            sfmask: 9,
            xss: 10,
            tsc_aux: 11,
        };
        page.set_private_state(&state);
        assert_eq!(page.private_state(), state);
        assert_eq!(page.switched(SwitchedState::Cr2), 7);
        for (number, value) in page.registers().gprs.into_iter().enumerate() {
            let expected = if number == Gpr::Rsp as usize {
                1
            } else {
                100 + number as u64
            };
            assert_eq!(value, expected, "register {number}");
        }
        Ok(())
    }
}
