// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Handles RDMSR and WRMSR exits: `services` says where a value is kept, this reads or writes it
//! there, or raises #GP as the guest's processor would.

use core::fmt;

use vtl::Exception;
use vtl::exit::{MsrRead, MsrWrite};
use vtl::field::L2Field;

use crate::services::{self, Msr};

/// A #GP that was raised, for the report.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fault {
    instruction: &'static str,
    index: u32,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#GP for {} {:#x}", self.instruction, self.index)
    }
}

/// Answers RDMSR.
pub(crate) fn read(read: MsrRead<'_>) -> vtl::Result<Option<Fault>> {
    let index = read.index();
    let value = match services::msr(index) {
        Msr::Field(field) => read.vp().read(field)?,
        Msr::Efer => read.vp().read(L2Field::GUEST_IA32_EFER)?,
        Msr::Switched(register) => read.vp().page().switched(register),
        Msr::Tsc => vtl::tsc(),
        Msr::Constant(value) => value,
        Msr::Unknown => {
            read.fault(Exception::GeneralProtection)?;
            return Ok(Some(Fault {
                instruction: "RDMSR",
                index,
            }));
        }
    };
    read.answer(value);
    Ok(None)
}

/// Answers WRMSR.
pub(crate) fn write(write: MsrWrite<'_>) -> vtl::Result<Option<Fault>> {
    let index = write.index();
    if !store(&write)? {
        write.fault(Exception::GeneralProtection)?;
        return Ok(Some(Fault {
            instruction: "WRMSR",
            index,
        }));
    }
    write.complete();
    Ok(None)
}

/// Stores the value; returns false if the register does not accept it.
fn store(write: &MsrWrite<'_>) -> vtl::Result<bool> {
    const EFER_SCE: u64 = 1;
    let (vp, value) = (write.vp(), write.value());
    match services::msr(write.index()) {
        // The TDX module checks the value of the field.
        Msr::Field(field) => Ok(vp.write(field, value).is_ok()),
        Msr::Switched(register) => {
            let is_taken = services::is_loadable(register, value);
            if is_taken {
                vp.page().set_switched(register, value);
            }
            Ok(is_taken)
        }
        Msr::Efer => {
            let current = vp.read(L2Field::GUEST_IA32_EFER)?;
            if (value ^ current) & !EFER_SCE != 0 {
                return Ok(false);
            }
            vp.write_masked(L2Field::GUEST_IA32_EFER, value, EFER_SCE)?;
            Ok(true)
        }
        Msr::Tsc | Msr::Constant(_) | Msr::Unknown => Ok(false),
    }
}
