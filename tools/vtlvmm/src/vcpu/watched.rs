// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Gives the monitor the registers of a processor, between two runs of it.

use vtl::Vp;
use vtl::field::L2Field;
use vtl::run_page::SwitchedState;

use super::guest::Guest;
use super::{Vcpu, cpl};
use crate::monitor::roots::Tops;
use crate::monitor::view::{Registers, Table};

impl Vcpu {
    /// Returns true if the monitor wants the registers.
    pub(super) fn is_watched(&self) -> bool {
        let watch = self.board.watch.as_ref();
        watch.is_some_and(|watch| watch.is_due(self.number))
    }

    /// Gives the monitor what it wants. Not in the middle of a VTL call, when they are not VTL0's.
    pub(super) fn be_watched(&self, guest: &Guest) -> vtl::Result<()> {
        let Some(watch) = &self.board.watch else {
            return Ok(());
        };
        let is_due = watch.is_due(self.number);
        if (!is_due && !watch.waits_for_user()) || guest.is_in_vtl1() {
            return Ok(());
        }
        let cpl = cpl(guest.vp())?;
        if cpl == 3 && watch.waits_for_user() {
            watch.has_user();
        }
        if is_due {
            let registers = registers(guest.vp(), cpl)?;
            watch.give(self.number, registers.with_tops(&self.board.memory));
        }
        Ok(())
    }
}

fn registers(vp: &Vp, cpl: u8) -> vtl::Result<Registers> {
    Ok(Registers {
        cpl,
        cr0: vp.read(L2Field::GUEST_CR0)?,
        cr3: vp.read(L2Field::GUEST_CR3)?,
        cr4: vp.read(L2Field::GUEST_CR4)?,
        efer: vp.read(L2Field::GUEST_IA32_EFER)?,
        idtr: Table {
            base: vp.read(L2Field::GUEST_IDTR_BASE)?,
            limit: vp.read(L2Field::GUEST_IDTR_LIMIT)?,
        },
        gdtr: Table {
            base: vp.read(L2Field::GUEST_GDTR_BASE)?,
            limit: vp.read(L2Field::GUEST_GDTR_LIMIT)?,
        },
        lstar: vp.page().switched(SwitchedState::Lstar),
        star: vp.page().switched(SwitchedState::Star),
        sfmask: vp.page().switched(SwitchedState::Sfmask),
        sysenter_eip: vp.read(L2Field::GUEST_SYSENTER_EIP)?,
        tops: Tops::default(),
    })
}
