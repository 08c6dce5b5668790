// SPDX-License-Identifier: GPL-2.0
//! `MSHV_GET_VP_REGISTERS` and `MSHV_SET_VP_REGISTERS`: registers of the lower VTLs that have no
//! field in the run page, of the VP of the current CPU.

use core::mem::offset_of;

use kernel::prelude::*;
use kernel::uaccess::UserSlice;

use crate::glue::abi::{mshv_register, mshv_vp_registers, MSHV_VP_MAX_REGISTERS};
use crate::nodes::args::Argument;
use crate::pure::registers::Register;
use crate::vp::claim::Pinned;
use crate::vp::machine::Machine;

/// A list of registers in user memory.
struct List {
    argument: Argument,
    entries: Argument,
    count: usize,
}

impl List {
    fn new(argument: Argument) -> Result<Self> {
        let head: mshv_vp_registers = argument.read()?;
        // The reference ABI has padding in place of `failed`: callers may leave anything there.
        if head.count == 0 || head.count > MSHV_VP_MAX_REGISTERS {
            return Err(EINVAL);
        }
        Ok(Self {
            argument,
            entries: Argument::pointer(head.registers),
            count: head.count as usize, // CAST: u32 fits
        })
    }

    fn slice(&self) -> UserSlice {
        self.entries.bytes(self.count * size_of::<mshv_register>())
    }

    /// The error for a register that is refused. If there are several, userspace is told which; a
    /// caller with just one knows, and its operand need not be writable.
    fn refused(&self, index: usize) -> Error {
        if self.count > 1 {
            let failed = self.argument.field(offset_of!(mshv_vp_registers, failed));
            // CAST: below `MSHV_VP_MAX_REGISTERS`
            let index = index as u32;
            // The error is returned even if the index can't be written.
            let _ = failed.write(&index);
        }
        EINVAL
    }
}

/// `MSHV_GET_VP_REGISTERS`.
///
/// # Errors
///
/// EFAULT; EINVAL for other registers; EBUSY, ENXIO as for a run.
pub(crate) fn get(machine: &Machine, argument: Argument) -> Result<isize> {
    let list = List::new(argument)?;
    let (mut reader, mut writer) = list.slice().reader_writer();
    let mut entries = KVec::with_capacity(list.count, GFP_KERNEL)?;
    for index in 0..list.count {
        let entry: mshv_register = reader.read()?;
        let register = Register::new(entry.name).ok_or_else(|| list.refused(index))?;
        entries.push((entry, register), GFP_KERNEL)?;
    }
    Pinned::with(machine, |pinned| {
        for (entry, register) in &mut entries {
            entry.value = [pinned.private().register(*register), 0];
        }
    })?;
    for (entry, _) in &entries {
        writer.write(entry)?;
    }
    Ok(0)
}

/// `MSHV_SET_VP_REGISTERS`.
///
/// # Errors
///
/// EFAULT; EINVAL for other registers, and for values that the processor does not accept; EBUSY,
/// ENXIO as for a run. Then no register has changed.
pub(crate) fn set(machine: &Machine, argument: Argument) -> Result<isize> {
    let list = List::new(argument)?;
    let mut reader = list.slice().reader();
    let mut values = KVec::with_capacity(list.count, GFP_KERNEL)?;
    for index in 0..list.count {
        let entry: mshv_register = reader.read()?;
        // All of these registers have 64 bits.
        let [value, _] = entry.value;
        let register = Register::new(entry.name)
            .filter(|register| register.takes(value, machine.features().format.xcr0()))
            .ok_or_else(|| list.refused(index))?;
        values.push((register, value), GFP_KERNEL)?;
    }
    Pinned::with(machine, |pinned| {
        // By reference: with preemption disabled the list must not be released.
        for &(register, value) in &values {
            pinned.private().set_register(register, value);
        }
    })?;
    Ok(0)
}
