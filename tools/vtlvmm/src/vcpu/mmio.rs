// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Accesses to addresses without memory: a device, or nothing, which floats.
//!
//! The TDX module reports the address, but not the instruction, which is fetched through the
//! guest's page tables and decoded here.

use vm_memory::{Bytes as _, GuestAddress, GuestMemory};
use vtl::exit::Access as Wanted;
use vtl::field::L2Field;
use vtl::{Gpr, Vp};

use super::{Next, is_64_bit, set_gpr, step_over};
use crate::board::{Board, End};
use crate::decode::{self, Access, Decoded, Extend, Operand, Part};
use crate::memory::LowerRam;
use crate::walk::Paging;

/// Bytes of the longest instruction.
const LONGEST: usize = 15;
/// Elements of a repeated instruction that are moved at once: the guest can be stopped in between.
const MOST_REPEATED: u64 = 4096;

/// Why an access is not emulated.
type Problem = String;

/// Emulates the instruction at RIP, which accessed `gpa`.
pub(super) fn emulate(
    board: &Board<LowerRam>,
    vp: &Vp,
    gpa: u64,
    wanted: Wanted,
) -> vtl::Result<Next> {
    let paging = paging(vp)?;
    let outcome = if board.memory.find_region(GuestAddress(gpa)).is_some() {
        Err("VTL0 has no right to its own page".to_owned())
    } else if wanted == Wanted::Fetch {
        Err("there is no memory to execute".to_owned())
    } else {
        instruction(board, vp, &paging).and_then(|decoded| {
            Operation {
                board,
                vp,
                paging: &paging,
                decoded,
                gpa,
                is_write: wanted == Wanted::Write,
            }
            .carry_out()
        })
    };
    Ok(match outcome {
        Ok(()) => Next::Run,
        Err(problem) => Next::End(End::Failed(format!(
            "{wanted} of guest-physical address {gpa:#x} at RIP {:#x}: {problem}",
            vp.page().rip()
        ))),
    })
}

/// How the guest translates. In 64-bit code only CR3 is to be read, which is a call each.
fn paging(vp: &Vp) -> vtl::Result<Paging> {
    let cr3 = vp.read(L2Field::GUEST_CR3)?;
    if is_64_bit(vp) {
        return Ok(Paging::long(cr3));
    }
    Ok(Paging {
        cr0: vp.read(L2Field::GUEST_CR0)?,
        cr3,
        cr4: vp.read(L2Field::GUEST_CR4)?,
        efer: vp.read(L2Field::GUEST_IA32_EFER)?,
    })
}

/// Fetches and decodes.
fn instruction(board: &Board<LowerRam>, vp: &Vp, paging: &Paging) -> Result<Decoded, Problem> {
    const CS_D: u64 = 1 << (16 + 14);
    let info = vp.page().exit_info();
    let bits = match (is_64_bit(vp), info.rsi & CS_D != 0) {
        (true, _) => 64,
        (false, true) => 32,
        (false, false) => 16,
    };
    let base = if bits == 64 { 0 } else { info.rdi };
    let linear = base.wrapping_add(vp.page().rip());
    let bytes = fetch(board, paging, linear);
    decode::decode(&bytes, bits)
        .ok_or_else(|| format!("the instruction {bytes:02x?} is not emulated for devices"))
}

/// The bytes at a linear address, as many as an instruction may have and are mapped.
fn fetch(board: &Board<LowerRam>, paging: &Paging, linear: u64) -> Vec<u8> {
    const PAGE: u64 = 4096;
    let mut bytes = vec![0; LONGEST];
    let mut len = 0;
    while len < LONGEST {
        // CAST: below 15, and at most a page.
        let at = linear.wrapping_add(len as u64);
        let now = ((PAGE - at % PAGE) as usize).min(LONGEST - len);
        let gpa = paging.translate(&board.memory, at).map(GuestAddress);
        let is_read = gpa.is_some_and(|gpa| {
            let part = &mut bytes[len..len + now];
            board.memory.read_slice(part, gpa).is_ok()
        });
        if !is_read {
            break;
        }
        len += now;
    }
    bytes.truncate(len);
    bytes
}

/// A decoded access on its way.
struct Operation<'a> {
    board: &'a Board<LowerRam>,
    vp: &'a Vp,
    paging: &'a Paging,
    decoded: Decoded,
    gpa: u64,
    is_write: bool,
}

impl Operation<'_> {
    fn carry_out(&self) -> Result<(), Problem> {
        let (board, gpa, size) = (self.board, self.gpa, self.decoded.size);
        match self.decoded.access {
            Access::Load { to, extend } => {
                let value = extended(board.read(gpa, size), size, extend);
                self.set_part(to, value);
            }
            Access::Store(operand) => board.write(gpa, size, self.value(operand)),
            Access::Compare { comparison, with } => {
                let device = board.read(gpa, size);
                let page = self.vp.page();
                let flags =
                    decode::flags(page.rflags(), comparison, device, self.value(with), size);
                page.set_rflags(flags);
            }
            Access::Move { is_repeated } => return self.repeat(is_repeated, Self::move_element),
            Access::Fill { is_repeated } => return self.repeat(is_repeated, Self::fill_element),
        }
        self.step();
        Ok(())
    }

    fn step(&self) {
        step_over(self.vp, self.decoded.len, is_64_bit(self.vp));
    }

    /// Carries out elements one by one, as long as they are in the same page as the first.
    fn repeat(
        &self,
        is_repeated: bool,
        element: fn(&Self, u64) -> Result<(), Problem>,
    ) -> Result<(), Problem> {
        const DF: u64 = 1 << 10;
        const PAGE: u64 = 4096;
        let page = self.vp.page();
        let size = u64::from(self.decoded.size);
        let is_down = page.rflags() & DF != 0;
        let stride = if is_down { size.wrapping_neg() } else { size };
        let count = if is_repeated {
            self.address(Gpr::Rcx)
        } else {
            1
        };
        let mut gpa = self.gpa;
        let mut done = 0;
        while done < count.min(MOST_REPEATED) && gpa / PAGE == self.gpa / PAGE {
            element(self, gpa)?;
            let moves = matches!(self.decoded.access, Access::Move { .. });
            self.advance(Gpr::Rdi, stride);
            if moves {
                self.advance(Gpr::Rsi, stride);
            }
            if is_repeated {
                self.advance(Gpr::Rcx, 1_u64.wrapping_neg());
            }
            gpa = gpa.wrapping_add(stride);
            done += 1;
        }
        if done == count {
            self.step();
        }
        Ok(())
    }

    fn move_element(&self, gpa: u64) -> Result<(), Problem> {
        let size = usize::from(self.decoded.size);
        let other = if self.is_write { Gpr::Rsi } else { Gpr::Rdi };
        let linear = self.address(other);
        // Elements are aligned in every driver; one across pages has no single address.
        let at = self.paging.translate(&self.board.memory, linear);
        let is_whole = linear % 4096 + size as u64 <= 4096; // CAST: at most 8
        let at = at.filter(|_| is_whole).map(GuestAddress);
        let memory = &self.board.memory;
        let moved = at.and_then(|at| {
            let mut bytes = [0; 8];
            if self.is_write {
                memory.read_slice(&mut bytes[..size], at).ok()?;
                self.board
                    .write(gpa, self.decoded.size, u64::from_le_bytes(bytes));
            } else {
                bytes = self.board.read(gpa, self.decoded.size).to_le_bytes();
                memory.write_slice(&bytes[..size], at).ok()?;
            }
            Some(())
        });
        moved.ok_or_else(|| format!("the other side of the move, {linear:#x}, is no memory"))
    }

    fn fill_element(&self, gpa: u64) -> Result<(), Problem> {
        let size = self.decoded.size;
        let value = self.vp.page().gpr(Gpr::Rax) & decode::mask(size);
        self.board.write(gpa, size, value);
        Ok(())
    }

    /// An address-sized register. Segment bases are assumed to be 0; in real mode guests do not use
    /// these instructions.
    fn address(&self, gpr: Gpr) -> u64 {
        self.vp.page().gpr(gpr) & decode::mask(self.decoded.address_bits / 8)
    }

    fn advance(&self, gpr: Gpr, by: u64) {
        let mask = decode::mask(self.decoded.address_bits / 8);
        let old = self.vp.page().gpr(gpr);
        let new = old.wrapping_add(by) & mask;
        // A write of 32 bits clears the upper half, a narrower one keeps the rest.
        let kept = if self.decoded.address_bits == 16 {
            old & !mask
        } else {
            0
        };
        set_gpr(self.vp, gpr, kept | new);
    }

    fn value(&self, operand: Operand) -> u64 {
        match operand {
            Operand::Immediate(value) => value,
            Operand::Register(part) => {
                let value = self.vp.page().gpr(part.gpr);
                let shift = if part.is_high_byte { 8 } else { 0 };
                (value >> shift) & decode::mask(part.size)
            }
        }
    }

    fn set_part(&self, part: Part, value: u64) {
        let old = self.vp.page().gpr(part.gpr);
        set_gpr(self.vp, part.gpr, merged(old, part, value));
    }
}

/// What a register has after `value` was put into a part of it.
fn merged(old: u64, part: Part, value: u64) -> u64 {
    let mask = decode::mask(part.size);
    let shift = if part.is_high_byte { 8 } else { 0 };
    // A write of 32 bits clears the upper half.
    let kept = if part.size >= 4 {
        0
    } else {
        old & !(mask << shift)
    };
    kept | ((value & mask) << shift)
}

/// Extends a value of `size` bytes to a 64-bit register.
fn extended(value: u64, size: u8, extend: Extend) -> u64 {
    let value = value & decode::mask(size);
    let unused = 64 - 8 * u32::from(size.min(8));
    match extend {
        Extend::None | Extend::Zero => value,
        // CAST: the sign is what this is about.
        Extend::Sign => (((value << unused) as i64) >> unused) as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_registers_keep_the_rest_as_processors_do() {
        let part = |size, is_high_byte| Part {
            gpr: Gpr::Rax,
            size,
            is_high_byte,
        };
        let old = 0x1111_2222_3333_4444;
        assert_eq!(merged(old, part(1, false), 0xff), 0x1111_2222_3333_44ff);
        assert_eq!(merged(old, part(1, true), 0xff), 0x1111_2222_3333_ff44);
        assert_eq!(merged(old, part(2, false), 0x1_ffff), 0x1111_2222_3333_ffff);
        assert_eq!(merged(old, part(4, false), u64::MAX), 0xffff_ffff);
        assert_eq!(merged(old, part(8, false), 7), 7);
    }

    #[test]
    fn narrow_values_are_extended() {
        assert_eq!(extended(0x1ff, 1, Extend::Zero), 0xff);
        assert_eq!(extended(0x80, 1, Extend::Sign), 0xffff_ffff_ffff_ff80);
        assert_eq!(extended(0x7fff_ffff, 4, Extend::Sign), 0x7fff_ffff);
        assert_eq!(extended(u64::MAX, 8, Extend::Sign), u64::MAX);
    }
}
