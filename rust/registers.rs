// SPDX-License-Identifier: GPL-2.0
//! `MSHV_GET_VP_REGISTERS` and `MSHV_SET_VP_REGISTERS`: registers of the lower VTLs that have no
//! place in the run page, of the VP of the current CPU.

use kernel::prelude::*;
use kernel::uaccess::{UserPtr, UserSlice};

use crate::abi::{mshv_register, mshv_vp_registers};
use crate::cpu::Machine;
use crate::pure::registers::Register;
use crate::vp::bind::Pinned;

/// Registers per call.
const MOST: u32 = 16;

fn read_head(argument: UserPtr) -> Result<(UserPtr, usize)> {
    let head: mshv_vp_registers = UserSlice::new(argument, size_of::<mshv_vp_registers>())
        .reader()
        .read()?;
    if head.count == 0 || head.count > MOST || head.reserved != 0 {
        return Err(EINVAL);
    }
    let registers = UserPtr::from_addr(head.registers as usize); // CAST: usize has 64 bits
    Ok((registers, head.count as usize)) // CAST: at most 16
}

fn decode(entry: &mshv_register) -> Result<Register> {
    if entry.reserved != [0; 3] {
        return Err(EINVAL);
    }
    Register::new(entry.name).ok_or(EINVAL)
}

/// `MSHV_GET_VP_REGISTERS`.
///
/// # Errors
///
/// EFAULT; EINVAL for other registers; EBUSY, ENXIO as for a run.
pub(crate) fn get(machine: &Machine, argument: UserPtr) -> Result<isize> {
    let (registers, count) = read_head(argument)?;
    let len_bytes = count * size_of::<mshv_register>();
    let (mut reader, mut writer) = UserSlice::new(registers, len_bytes).reader_writer();
    for _ in 0..count {
        let mut entry: mshv_register = reader.read()?;
        let register = decode(&entry)?;
        let mut pinned = Pinned::claim(machine)?;
        entry.value = [pinned.private().register(register), 0];
        drop(pinned);
        writer.write(&entry)?;
    }
    Ok(0)
}

/// `MSHV_SET_VP_REGISTERS`.
///
/// # Errors
///
/// EFAULT; EINVAL for other registers and values that the processor does not take; EBUSY, ENXIO as
/// for a run. Then no register has changed.
pub(crate) fn set(machine: &Machine, argument: UserPtr) -> Result<isize> {
    let (registers, count) = read_head(argument)?;
    let mut reader = UserSlice::new(registers, count * size_of::<mshv_register>()).reader();
    let mut values = KVec::with_capacity(count, GFP_KERNEL)?;
    for _ in 0..count {
        let entry: mshv_register = reader.read()?;
        let register = decode(&entry)?;
        let [value, high] = entry.value;
        if high != 0 || !register.takes(value, machine.features().format.xcr0()) {
            return Err(EINVAL);
        }
        values.push((register, value), GFP_KERNEL)?;
    }
    let mut pinned = Pinned::claim(machine)?;
    for (register, value) in values {
        pinned.private().set_register(register, value);
    }
    Ok(0)
}
