// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Accesses to addresses without memory: a device, or nothing, which floats.
//!
//! The TDX module reports the address, but not the instruction, which is fetched through the
//! guest's page tables and decoded here.

use vm_memory::{Bytes as _, GuestAddress, GuestMemory as _};
use vtl::exit::Access as Wanted;
use vtl::field::L2Field;
use vtl::{Exception, Gpr, Vm, Vp};

use super::{Next, is_64_bit, set_gpr, step_over};
use crate::board::{Board, End};
use crate::decode::{self, Access, Decoded, Extend, Operand, Part};
use crate::memory::{LowerRam, Range};
use crate::platform::RESET_ENTRY;
use crate::platform::power::Power;
use crate::walk::{Kind, Miss, Paging, Privilege};

/// Bytes of the longest instruction.
const LONGEST: usize = 15;
/// Elements of a repeated instruction that are moved at once: the guest can be stopped in between.
const MOST_REPEATED: u64 = 4096;

/// Why an access is not emulated.
#[derive(Debug)]
enum Problem {
    /// The guest has failed, in words.
    Failed(String),
    /// The guest gets this exception instead.
    Fault(Exception),
    /// The guest has changed the instruction or its tables meanwhile: it tries again.
    Changed,
    /// This VTL has failed.
    Vtl(vtl::Error),
}

impl Problem {
    /// What the guest gets for an access to `linear_address`.
    fn of_miss(miss: Miss, linear_address: u64) -> Self {
        match miss {
            Miss::Fault(error_code) => Self::Fault(Exception::PageFault {
                linear_address,
                error_code,
            }),
            Miss::NotCanonical => Self::Fault(Exception::GeneralProtection),
            Miss::Changed => Self::Changed,
        }
    }
}

impl From<vtl::Error> for Problem {
    fn from(error: vtl::Error) -> Self {
        Self::Vtl(error)
    }
}

/// Emulates the instruction at RIP, which accessed `gpa`.
pub(super) fn emulate(
    board: &Board<LowerRam>,
    vp: &Vp,
    gpa: u64,
    wanted: Wanted,
) -> vtl::Result<Next> {
    let paging = paging(vp)?;
    let outcome = if board.memory.find_region(GuestAddress(gpa)).is_some() {
        own_page(board, gpa, wanted)
    } else if wanted == Wanted::Fetch && RESET_ENTRY.contains(Range::new(gpa, gpa + 1)) {
        return Ok(Next::End(End::Power(Power::Reset)));
    } else if wanted == Wanted::Fetch {
        Err(Problem::Failed("there is no memory to execute".to_owned()))
    } else {
        instruction(board, vp, &paging).and_then(|decoded| {
            let is_write = wanted == Wanted::Write;
            if !decoded.access.is_one_that(is_write) {
                return Err(Problem::Changed);
            }
            Operation {
                board,
                vp,
                decoded,
                gpa,
                is_write,
            }
            .carry_out()
        })
    };
    match outcome {
        Ok(()) | Err(Problem::Changed) => {}
        Err(Problem::Fault(exception)) => vp.inject(exception)?,
        Err(Problem::Vtl(error)) => return Err(error),
        Err(Problem::Failed(problem)) => {
            return Ok(Next::End(End::Failed(format!(
                "{wanted} of guest-physical address {gpa:#x} at RIP {:#x}: {problem}",
                vp.page().rip()
            ))));
        }
    }
    Ok(Next::Run)
}

/// An access to the guest's own memory that its rights do not allow. VTL1 takes the right to write, and
/// VTL0 learns that by #GP.
fn own_page(board: &Board<LowerRam>, gpa: u64, wanted: Wanted) -> Result<(), Problem> {
    let rights = board
        .processors
        .vtl()
        .page_attributes(gpa)?
        .rights(Vm::VTL0);
    if wanted == Wanted::Write && rights.read() && !rights.write() {
        return Err(Problem::Fault(Exception::GeneralProtection));
    }
    Err(Problem::Failed(
        "VTL0 has no right to its own page".to_owned(),
    ))
}

/// How the guest translates. In 64-bit code only CR3 is to be read, which is a call each.
fn paging(vp: &Vp) -> vtl::Result<Paging> {
    let cr3 = vp.read(L2Field::GUEST_CR3)?;
    if is_64_bit(vp) {
        return Ok(Paging::long(cr3));
    }
    whole_paging(vp, cr3)
}

fn whole_paging(vp: &Vp, cr3: u64) -> vtl::Result<Paging> {
    Ok(Paging {
        cr0: vp.read(L2Field::GUEST_CR0)?,
        cr3,
        cr4: vp.read(L2Field::GUEST_CR4)?,
        efer: vp.read(L2Field::GUEST_IA32_EFER)?,
    })
}

/// Whose instruction it is: CPL is the DPL of SS.
fn privilege(vp: &Vp) -> vtl::Result<Privilege> {
    const DPL_SHIFT: u32 = 5;
    const AC: u64 = 1 << 18;
    Ok(Privilege {
        is_user: (vp.read(L2Field::GUEST_SS_AR)? >> DPL_SHIFT) & 3 == 3,
        is_ac_set: vp.page().rflags() & AC != 0,
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
    let linear = match bits {
        64 => vp.page().rip(),
        _ => info.rdi.wrapping_add(vp.page().rip()) & 0xffff_ffff,
    };
    let bytes = fetch(board, paging, linear);
    let check = |at| check_fetch(board, vp, paging.cr3, at);
    if let Some(decoded) = decode::decode(&bytes, bits) {
        // The processor has executed something at `linear`. The guest may have changed it meanwhile
        // to an instruction that ends in a page from which nothing may be fetched.
        let [first, second] = pieces(linear, decoded.len);
        if second != 0 {
            check(linear.wrapping_add(first.into()))?;
        }
        return Ok(decoded);
    }
    // The rest is gone because the guest has changed its tables. If it is still gone, it finds out.
    if bytes.len() < LONGEST {
        // CAST: at most 15.
        check(linear.wrapping_add(bytes.len() as u64))?;
    }
    Err(Problem::Failed(format!(
        "the instruction {bytes:02x?} is not emulated for devices"
    )))
}

/// Checks that the guest may fetch instructions from `linear`.
fn check_fetch(board: &Board<LowerRam>, vp: &Vp, cr3: u64, linear: u64) -> Result<(), Problem> {
    let paging = whole_paging(vp, cr3)?;
    let found = paging.access(&board.memory, linear, Kind::Fetch, privilege(vp)?);
    found.map_err(|miss| Problem::of_miss(miss, linear))?;
    Ok(())
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
            Access::Move { is_repeated } => {
                let memory = OtherSide::new(self)?;
                return self.repeat(is_repeated, |gpa| self.move_element(&memory, gpa));
            }
            Access::Fill { is_repeated } => {
                return self.repeat(is_repeated, |gpa| {
                    self.fill_element(gpa);
                    Ok(())
                });
            }
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
        mut element: impl FnMut(u64) -> Result<(), Problem>,
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
            element(gpa)?;
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

    fn move_element(&self, memory: &OtherSide<'_>, gpa: u64) -> Result<(), Problem> {
        let size = self.decoded.size;
        if self.is_write {
            let place = memory.place(self.address(Gpr::Rsi))?;
            self.board.write(gpa, size, memory.read(&place));
        } else {
            // Found before the device is read: reading it may change it.
            let place = memory.place(self.address(Gpr::Rdi))?;
            memory.write(&place, self.board.read(gpa, size));
        }
        Ok(())
    }

    fn fill_element(&self, gpa: u64) {
        let size = self.decoded.size;
        let value = self.vp.page().gpr(Gpr::Rax) & decode::mask(size);
        self.board.write(gpa, size, value);
    }

    /// An address-sized register. Segment bases are assumed to be 0, and limits not to matter; in
    /// real mode guests do not use these instructions.
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

/// The side of a string move that is not the device: memory, by the rights that the guest has there.
/// The processor has only checked the device's side.
struct OtherSide<'a> {
    board: &'a Board<LowerRam>,
    paging: Paging,
    privilege: Privilege,
    kind: Kind,
    size: u8,
}

/// Where an element is: one piece, or two if it crosses a page. Each has its address and its bytes.
type Place = [(u64, u8); 2];

impl<'a> OtherSide<'a> {
    fn new(operation: &Operation<'a>) -> vtl::Result<Self> {
        let vp = operation.vp;
        Ok(Self {
            board: operation.board,
            paging: whole_paging(vp, vp.read(L2Field::GUEST_CR3)?)?,
            privilege: privilege(vp)?,
            kind: if operation.is_write {
                Kind::Read
            } else {
                Kind::Write
            },
            size: operation.decoded.size,
        })
    }

    fn place(&self, linear: u64) -> Result<Place, Problem> {
        let [first, second] = pieces(linear, self.size);
        let second_at = linear.wrapping_add(first.into());
        let first_gpa = self.gpa(linear)?;
        let second_gpa = if second == 0 { 0 } else { self.gpa(second_at)? };
        Ok([(first_gpa, first), (second_gpa, second)])
    }

    fn gpa(&self, linear: u64) -> Result<u64, Problem> {
        let memory = &self.board.memory;
        let found = self
            .paging
            .access(memory, linear, self.kind, self.privilege);
        found.map_err(|miss| Problem::of_miss(miss, linear))
    }

    /// What is not memory is a device, too, or floats.
    fn read(&self, place: &Place) -> u64 {
        let mut value = 0;
        let mut shift = 0;
        for (gpa, size) in place.iter().copied().filter(|(_, size)| *size != 0) {
            let mut bytes = [0; 8];
            let part = &mut bytes[..usize::from(size)];
            let part = match self.board.memory.read_slice(part, GuestAddress(gpa)) {
                Ok(()) => u64::from_le_bytes(bytes),
                Err(_) => self.board.read(gpa, size) & decode::mask(size),
            };
            value |= part << shift;
            shift += 8 * u32::from(size);
        }
        value
    }

    fn write(&self, place: &Place, value: u64) {
        let mut rest = value;
        for (gpa, size) in place.iter().copied().filter(|(_, size)| *size != 0) {
            let bytes = &rest.to_le_bytes()[..usize::from(size)];
            // What VTL1 protects is no memory for this.
            let writing = self.board.protected.writing();
            let memory = &self.board.device_memory;
            let written = memory.write_slice(bytes, GuestAddress(gpa));
            drop(writing);
            if written.is_err() {
                self.board.write(gpa, size, rest & decode::mask(size));
            }
            rest = rest.checked_shr(8 * u32::from(size)).unwrap_or(0);
        }
    }
}

/// How many bytes of an element are in its first page, and how many in the next.
fn pieces(linear: u64, size: u8) -> [u8; 2] {
    const PAGE: u64 = 4096;
    let room = PAGE - linear % PAGE;
    // CAST: at most `size`.
    let first = room.min(size.into()) as u8;
    [first, size - first]
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
    fn an_element_across_a_page_has_two_pieces() {
        assert_eq!(pieces(0x1000, 8), [8, 0]);
        assert_eq!(pieces(0x1ff8, 8), [8, 0]);
        assert_eq!(pieces(0x1fff, 8), [1, 7]);
        assert_eq!(pieces(0x1ffd, 4), [3, 1]);
        assert_eq!(pieces(u64::MAX, 2), [1, 1]);
    }

    #[test]
    fn narrow_values_are_extended() {
        assert_eq!(extended(0x1ff, 1, Extend::Zero), 0xff);
        assert_eq!(extended(0x80, 1, Extend::Sign), 0xffff_ffff_ffff_ff80);
        assert_eq!(extended(0x7fff_ffff, 4, Extend::Sign), 0x7fff_ffff);
        assert_eq!(extended(u64::MAX, 8, Extend::Sign), u64::MAX);
    }
}
