// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! RDMSR and WRMSR: `msr` says where a value is, this carries it there, or raises #GP where a
//! processor would.

use vtl::exit::{MsrRead, MsrWrite};
use vtl::field::L2Field;
use vtl::{Exception, Vp};

use super::control::CR0_PG;
use super::{Next, Vcpu};
use crate::msr::{self, Msr};

impl Vcpu {
    pub(super) fn read_msr(&mut self, exit: MsrRead<'_>) -> vtl::Result<()> {
        self.note_timer(exit.vp());
        match self.msr_value(exit.vp(), exit.index())? {
            Some(value) => exit.answer(value),
            None => exit.fault(Exception::GeneralProtection)?,
        }
        Ok(())
    }

    fn msr_value(&self, vp: &Vp, index: u32) -> vtl::Result<Option<u64>> {
        Ok(match msr::msr(index) {
            Msr::Field(field) => Some(vp.read(field)?),
            Msr::Efer => Some(vp.read(L2Field::GUEST_IA32_EFER)?),
            Msr::Switched(register) => Some(vp.page().switched(register)),
            Msr::Tsc => Some(vtl::tsc()),
            Msr::ApicBase => Some(self.apic.base()),
            Msr::Deadline => Some(self.apic.tsc_deadline()),
            Msr::X2Apic(register) => self.apic.read(register, vtl::tsc()),
            Msr::Fixed(value) => Some(value),
            Msr::Unknown => None,
        })
    }

    pub(super) fn write_msr(&mut self, exit: MsrWrite<'_>) -> vtl::Result<Next> {
        // An interrupt command may change this processor, too: the instruction is over before.
        let (vp, index, value) = (exit.vp(), exit.index(), exit.value());
        self.note_timer(vp);
        if self.set_msr(vp, index, value)? {
            exit.complete();
        } else {
            exit.fault(Exception::GeneralProtection)?;
        }
        Ok(Next::Run)
    }

    /// Stores a value; returns false if there is no such register, or it does not accept the value.
    fn set_msr(&mut self, vp: &Vp, index: u32, value: u64) -> vtl::Result<bool> {
        match msr::msr(index) {
            // The TDX module checks the value of the field.
            Msr::Field(field) => Ok(vp.write(field, value).is_ok()),
            Msr::Efer => set_efer(vp, value),
            Msr::Switched(register) => {
                let is_taken = msr::is_loadable(register, value);
                if is_taken {
                    vp.page().set_switched(register, value);
                }
                Ok(is_taken)
            }
            Msr::ApicBase => Ok(value == self.apic.base()),
            Msr::Deadline => {
                let effect = self.apic.set_tsc_deadline(value);
                self.carry_out(vp, effect)
            }
            Msr::X2Apic(register) => {
                let effect = self.apic.write(register, value, vtl::tsc());
                self.carry_out(vp, effect)
            }
            Msr::Fixed(_) => Ok(true),
            Msr::Tsc | Msr::Unknown => Ok(false),
        }
    }
}

fn set_efer(vp: &Vp, value: u64) -> vtl::Result<bool> {
    let is_paging = vp.read(L2Field::GUEST_CR0)? & CR0_PG != 0;
    let old = vp.read(L2Field::GUEST_IA32_EFER)?;
    let Some(new) = msr::efer_after(old, value, is_paging) else {
        return Ok(false);
    };
    vp.write(L2Field::GUEST_IA32_EFER, new)?;
    Ok(true)
}
