// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Linear addresses, as the guest's processor translates them at the moment of an exit.

use vm_memory::{Bytes as _, GuestAddress};
use vtl::field::L2Field;
use vtl::{Exception, Vp};

use super::Problem;
use crate::board::Board;
use crate::decode;
use crate::memory::{LowerRam, Protected, Range};
use crate::vcpu::{cpl, is_64_bit};
use crate::walk::{Kind, Paging, Privilege, Tables};

/// How the guest translates. In 64-bit code only CR3 is to be read, which is a call each.
pub(super) fn paging(vp: &Vp) -> vtl::Result<Paging> {
    let cr3 = vp.read(L2Field::GUEST_CR3)?;
    if is_64_bit(vp) {
        return Ok(Paging::long(cr3));
    }
    whole_paging(vp, cr3)
}

pub(super) fn whole_paging(vp: &Vp, cr3: u64) -> vtl::Result<Paging> {
    Ok(Paging {
        cr0: vp.read(L2Field::GUEST_CR0)?,
        cr3,
        cr4: vp.read(L2Field::GUEST_CR4)?,
        efer: vp.read(L2Field::GUEST_IA32_EFER)?,
    })
}

/// Whose instruction it is.
pub(super) fn privilege(vp: &Vp) -> vtl::Result<Privilege> {
    const AC: u64 = 1 << 18;
    Ok(Privilege {
        is_user: cpl(vp)? == 3,
        is_ac_set: vp.page().rflags() & AC != 0,
    })
}

/// Translates an access as the processor does, which marks entries; but none that VTL1 protects.
pub(super) fn translate(
    board: &Board<LowerRam>,
    paging: &Paging,
    linear: u64,
    kind: Kind,
    privilege: Privilege,
) -> Result<u64, Problem> {
    let _writing = board.protected.writing();
    let tables = Tables {
        memory: &board.memory,
        writable: &board.device_memory,
    };
    let found = paging.access(&tables, linear, kind, privilege);
    found.map_err(|miss| Problem::of_miss(miss, linear))
}

/// The side of a string move that is not the device: memory, by the rights that the guest has there.
/// The processor has only checked the device's side.
pub(super) struct OtherSide<'a> {
    board: &'a Board<LowerRam>,
    paging: Paging,
    privilege: Privilege,
    kind: Kind,
    size: u8,
}

/// Where an element is: one piece, or two if it crosses a page. Each has its address and its bytes.
pub(super) type Place = [(u64, u8); 2];

impl<'a> OtherSide<'a> {
    /// That of a move of elements of `size` bytes, which reads or writes it.
    pub(super) fn new(
        board: &'a Board<LowerRam>,
        vp: &Vp,
        kind: Kind,
        size: u8,
    ) -> vtl::Result<Self> {
        Ok(Self {
            board,
            paging: whole_paging(vp, vp.read(L2Field::GUEST_CR3)?)?,
            privilege: privilege(vp)?,
            kind,
            size,
        })
    }

    /// Finds an element, by the rights that the guest has there. To write where VTL1 protects a page is
    /// the exception that a store of the guest would be.
    pub(super) fn place(&self, linear: u64) -> Result<Place, Problem> {
        let [first, second] = pieces(linear, self.size);
        let second_at = linear.wrapping_add(first.into());
        let first_gpa = self.gpa(linear)?;
        let second_gpa = if second == 0 { 0 } else { self.gpa(second_at)? };
        let place = [(first_gpa, first), (second_gpa, second)];
        if self.kind == Kind::Write && is_protected(&self.board.protected, &place) {
            return Err(Problem::Fault(Exception::GeneralProtection));
        }
        Ok(place)
    }

    fn gpa(&self, linear: u64) -> Result<u64, Problem> {
        translate(self.board, &self.paging, linear, self.kind, self.privilege)
    }

    /// What is not memory is a device, too, or floats.
    pub(super) fn read(&self, place: &Place) -> u64 {
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

    /// Stores an element. What VTL1 has protected since it was found is no memory for this.
    pub(super) fn write(&self, place: &Place, value: u64) {
        let mut rest = value;
        for (gpa, size) in place.iter().copied().filter(|(_, size)| *size != 0) {
            let bytes = &rest.to_le_bytes()[..usize::from(size)];
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
pub(super) fn pieces(linear: u64, size: u8) -> [u8; 2] {
    const PAGE: u64 = 4096;
    let room = PAGE - linear % PAGE;
    // CAST: at most `size`.
    let first = room.min(size.into()) as u8;
    [first, size - first]
}

/// Returns true if VTL1 protects any byte of an element.
fn is_protected(protected: &Protected, place: &Place) -> bool {
    place.iter().any(|(gpa, size)| {
        let end = gpa.saturating_add(u64::from(*size));
        protected.overlaps(Range::new(*gpa, end))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_element_is_protected_if_one_of_its_pieces_is() {
        let protected = Protected::default();
        protected.add([Range::new(0, 0x1000), Range::new(0x8000, 0x9000)]);
        for (place, is) in [
            ([(0x8ffc, 4), (0, 0)], true),
            ([(0x9000, 4), (0, 0)], false),
            ([(0x7ffc, 4), (0, 0)], false),
            ([(0x5ffd, 3), (0x8000, 1)], true),
            ([(0x8fff, 1), (0x3000, 3)], true),
            ([(0x5fff, 1), (0x3000, 7)], false),
            ([(0xfec0_0000, 4), (0, 0)], false),
            ([(u64::MAX - 3, 8), (0, 0)], false),
        ] {
            assert_eq!(is_protected(&protected, &place), is, "{place:x?}");
        }
    }

    #[test]
    fn an_element_across_a_page_has_two_pieces() {
        assert_eq!(pieces(0x1000, 8), [8, 0]);
        assert_eq!(pieces(0x1ff8, 8), [8, 0]);
        assert_eq!(pieces(0x1fff, 8), [1, 7]);
        assert_eq!(pieces(0x1ffd, 4), [3, 1]);
        assert_eq!(pieces(u64::MAX, 2), [1, 1]);
    }
}
