// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The general registers of a guest, in the order of their register numbers.
//!
//! `vmrun.S` loads and stores all of them except RAX and RSP, which VMRUN itself keeps in the
//! VMCB; [`crate::Vcpu`] puts these two in their places.

use core::mem::offset_of;

/// General registers by register number (ModRM numbering).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "register names")]
pub struct Gprs {
    pub rax: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rbx: u64,
    pub rsp: u64,
    pub rbp: u64,
    pub rsi: u64,
    pub rdi: u64,
    pub r8: u64,
    pub r9: u64,
    pub r10: u64,
    pub r11: u64,
    pub r12: u64,
    pub r13: u64,
    pub r14: u64,
    pub r15: u64,
}

const _: () = assert!(size_of::<Gprs>() == 128 && offset_of!(Gprs, rsp) == 32);
const _: () = assert!(offset_of!(Gprs, r8) == 64 && offset_of!(Gprs, r15) == 120);

impl Gprs {
    /// Value of register `number` (0..=15; higher numbers wrap).
    pub const fn get(&self, number: u8) -> u64 {
        match number & 15 {
            0 => self.rax,
            1 => self.rcx,
            2 => self.rdx,
            3 => self.rbx,
            4 => self.rsp,
            5 => self.rbp,
            6 => self.rsi,
            7 => self.rdi,
            8 => self.r8,
            9 => self.r9,
            10 => self.r10,
            11 => self.r11,
            12 => self.r12,
            13 => self.r13,
            14 => self.r14,
            _ => self.r15,
        }
    }

    /// Sets register `number` (0..=15; higher numbers wrap).
    pub const fn set(&mut self, number: u8, value: u64) {
        let register = match number & 15 {
            0 => &mut self.rax,
            1 => &mut self.rcx,
            2 => &mut self.rdx,
            3 => &mut self.rbx,
            4 => &mut self.rsp,
            5 => &mut self.rbp,
            6 => &mut self.rsi,
            7 => &mut self.rdi,
            8 => &mut self.r8,
            9 => &mut self.r9,
            10 => &mut self.r10,
            11 => &mut self.r11,
            12 => &mut self.r12,
            13 => &mut self.r13,
            14 => &mut self.r14,
            _ => &mut self.r15,
        };
        *register = value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_name_the_same_register_for_reading_and_writing() {
        for number in 0..16 {
            let mut gprs = Gprs::default();
            gprs.set(number, 7);
            for other in 0..16 {
                assert_eq!(gprs.get(other), if other == number { 7 } else { 0 });
            }
        }
    }
}
