// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! What a hypercall is given, and its result: the control word, the places of its lists, the parameters of
//! the register calls. [TLFS "Hypercall Interface", HvCallSetVpRegisters]

/// The control word of a hypercall.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Control {
    /// Which call.
    pub code: u16,
    /// True if the parameters are in registers.
    pub is_fast: bool,
    /// How many elements, of which the first `rep_start` are done.
    pub rep_count: u16,
    /// See `rep_count`.
    pub rep_start: u16,
}

impl Control {
    /// Returns `None` if reserved bits are set, or the elements to skip exceed the count.
    pub fn decode(word: u64) -> Option<Self> {
        const RESERVED: u64 = (0x1f << 27) | (0xf << 44) | (0xf << 60);
        let control = Self {
            code: word as u16, // CAST: the low 16 bits
            is_fast: word & (1 << 16) != 0,
            // CAST: 12 bits each.
            rep_count: ((word >> 32) & 0xfff) as u16,
            rep_start: ((word >> 48) & 0xfff) as u16,
        };
        let is_simple = control.rep_count == 0 && control.rep_start == 0;
        let is_sound = word & RESERVED == 0 && (is_simple || control.rep_start < control.rep_count);
        is_sound.then_some(control)
    }
}

/// Returns true if a list of parameters can be where its pointer says: aligned, in one page, and an
/// address of the guest-physical space, of which the bit for shared pages is none. Whether the host
/// reaches the page is another question. [TLFS HV_STATUS_INVALID_ALIGNMENT]
pub fn is_in_place(pointer: u64, len_bytes: u64, shared_bit: u64) -> bool {
    let gpa = pointer & !shared_bit;
    gpa % 8 == 0 && gpa < shared_bit && (gpa & 0xfff) + len_bytes <= 0x1000
}

/// Whose register is meant, as seen from VTL2. [TLFS HV_INPUT_VTL]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InputVtl {
    /// VTL2's.
    Own,
    /// That of a lower VTL.
    Lower(u8),
}

impl InputVtl {
    /// Decodes the byte, and the three bytes after it, which are reserved.
    pub fn decode(word: u32) -> Option<Self> {
        const TARGET: u32 = 0xf;
        const USES_TARGET: u32 = 1 << 4;
        const OWN: u32 = 2;
        if word & !(TARGET | USES_TARGET) != 0 {
            return None;
        }
        match word & TARGET {
            _ if word & USES_TARGET == 0 => Some(Self::Own),
            OWN => Some(Self::Own),
            vtl @ 0..OWN => Some(Self::Lower(vtl as u8)), // CAST: below 2
            _ => None,
        }
    }
}

/// Name and value of a register that is set. `None` if padding is not zero, or the value has more than 64
/// bits, as none of the host's registers has.
pub fn assignment(element: [u8; 32]) -> Option<(u32, u64)> {
    let [name, value] = [0, 16].map(|at| {
        let mut half = [0; 16];
        half.copy_from_slice(&element[at..at + 16]);
        u128::from_le_bytes(half)
    });
    Some((name.try_into().ok()?, value.try_into().ok()?))
}

/// A hypercall's result word.
pub fn result(status: u16, reps_done: u16) -> u64 {
    u64::from(status) | (u64::from(reps_done & 0xfff) << 32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hyperv::status;

    #[test]
    fn a_list_is_aligned_and_in_one_page_of_the_guests() {
        const SHARED: u64 = 1 << 47;
        for pointer in [0, 8, 0x1ff0, SHARED - 0x1000, SHARED | 0x2000] {
            assert!(is_in_place(pointer, 16, SHARED), "{pointer:#x}");
        }
        assert!(is_in_place(0x1000, 4096, SHARED));
        for pointer in [1, 4, 0x1ffc, 0x1ff8, 1 << 48, u64::MAX - 7] {
            assert!(!is_in_place(pointer, 16, SHARED), "{pointer:#x}");
        }
        assert!(!is_in_place(0x1000, 4104, SHARED));
    }

    #[test]
    fn the_vtl_of_a_register_is_the_callers_or_one_that_is_named() {
        // Without the bit that says so, no VTL is named.
        for word in [0, 1, 0xf, 0x12] {
            assert_eq!(InputVtl::decode(word), Some(InputVtl::Own), "{word:#x}");
        }
        assert_eq!(InputVtl::decode(0x10), Some(InputVtl::Lower(0)));
        assert_eq!(InputVtl::decode(0x11), Some(InputVtl::Lower(1)));
        for word in [0x13, 0x1f, 0x20, 0x90, 0x110, 0x0100_0000] {
            assert_eq!(InputVtl::decode(word), None, "{word:#x}");
        }
    }

    #[test]
    fn a_register_is_set_to_64_bits_and_padding_is_zero() {
        let mut element = [0; 32];
        element[..4].copy_from_slice(&0xa_0012u32.to_le_bytes());
        element[16..24].copy_from_slice(&u64::MAX.to_le_bytes());
        assert_eq!(assignment(element), Some((0xa_0012, u64::MAX)));
        for at in (4..16).chain(24..32) {
            let mut bad = element;
            bad[at] = 1;
            assert_eq!(assignment(bad), None, "byte {at}");
        }
    }

    #[test]
    fn control_word_is_taken_apart_and_reserved_bits_are_refused() {
        let control = Control::decode(0x0001_0003_0001_0051).unwrap();
        assert_eq!((control.code, control.is_fast), (0x51, true));
        assert_eq!((control.rep_count, control.rep_start), (3, 1));
        for bad in [1u64 << 27, 1 << 44, 1 << 60, 3 << 48, (2 << 32) | (2 << 48)] {
            assert_eq!(Control::decode(bad | 0x50), None, "{bad:#x}");
        }
        assert_eq!(result(status::INVALID_PARAMETER, 2), 0x2_0000_0005);
    }
}
