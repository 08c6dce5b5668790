// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Port input and output: the exit qualification of an I/O instruction, and
//! the registers that its answer changes. Part of [`crate::exit`].

use super::instruction::{Instruction, low};
use crate::Result;
use crate::run_page::Gpr;
use crate::vp::{Exception, Vp};

/// Direction of the transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the port to the guest.
    In,
    /// From the guest to the port.
    Out,
}

/// A decoded port access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Port {
    /// Port number.
    pub number: u16,
    /// 1, 2 or 4.
    pub size_bytes: u8,
    /// In or out.
    pub direction: Direction,
    /// INS or OUTS, which access memory.
    pub is_string: bool,
}

impl Port {
    pub(super) fn from_qualification(qualification: u64) -> Self {
        let direction = if qualification & (1 << 3) != 0 {
            Direction::In
        } else {
            Direction::Out
        };
        let size_bytes = match qualification & 7 {
            0 => 1,
            1 => 2,
            _ => 4,
        };
        Self {
            // CAST: the port is in bits 31:16.
            number: (qualification >> 16) as u16,
            size_bytes,
            direction,
            is_string: qualification & (1 << 4) != 0,
        }
    }

    const fn mask(self) -> u64 {
        match self.size_bytes {
            1 => 0xff,
            2 => 0xffff,
            _ => 0xffff_ffff,
        }
    }
}

/// Port input or output.
#[derive(Debug)]
pub struct PortAccess<'a> {
    instruction: Instruction<'a>,
    port: Port,
}

impl<'a> PortAccess<'a> {
    pub(super) const fn new(instruction: Instruction<'a>, port: Port) -> Self {
        Self { instruction, port }
    }

    /// The port, the size, and the direction.
    pub fn port(&self) -> Port {
        self.port
    }

    /// The value that the guest writes.
    pub fn value(&self) -> u32 {
        low(self.instruction.page().gpr(Gpr::Rax) & self.port.mask())
    }

    /// The processor, for registers and fields of the L2 VMCS.
    pub fn vp(&self) -> &'a Vp {
        self.instruction.vp()
    }

    /// Raises `exception` instead.
    ///
    /// # Errors
    /// [`crate::Error::Tdcall`].
    pub fn fault(self, exception: Exception) -> Result<()> {
        self.instruction.fault(exception)
    }

    /// Steps over an output.
    pub fn complete(self) {
        self.instruction.complete();
    }

    /// Returns `value` to the guest, and steps over the instruction.
    pub fn answer(self, value: u32) {
        let page = self.instruction.page();
        let merged = merge_input(page.gpr(Gpr::Rax), self.port, value);
        page.set_gpr(Gpr::Rax, merged);
        self.instruction.complete();
    }
}

/// A narrow input keeps the upper part of RAX, a 32-bit one clears it.
fn merge_input(rax: u64, port: Port, value: u32) -> u64 {
    let mask = port.mask();
    let kept = if port.size_bytes == 4 { 0 } else { rax & !mask };
    kept | u64::from(value) & mask
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::ExitInfo;
    use crate::exit::{Kind, classify};
    use proptest::prelude::*;

    #[test]
    fn port_accesses_are_decoded() {
        let output = ExitInfo {
            rax: 30,
            rcx: 0xe9 << 16,
            ..ExitInfo::default()
        };
        let expected = Port {
            number: 0xe9,
            size_bytes: 1,
            direction: Direction::Out,
            is_string: false,
        };
        assert_eq!(classify(&output), Kind::Port(expected));
        let input = Port::from_qualification((0x3f8 << 16) | (1 << 4) | (1 << 3) | 3);
        assert_eq!((input.number, input.size_bytes), (0x3f8, 4));
        assert_eq!((input.direction, input.is_string), (Direction::In, true));
    }

    proptest! {
        #[test]
        fn every_qualification_is_a_port_access_of_1_2_or_4_bytes(qualification: u64) {
            let port = Port::from_qualification(qualification);
            prop_assert!([1, 2, 4].contains(&port.size_bytes));
            prop_assert_eq!(u64::from(port.number), (qualification >> 16) & 0xffff);
            let merged = merge_input(u64::MAX, port, 0);
            let kept = if port.size_bytes == 4 { 0 } else { !port.mask() };
            prop_assert_eq!(merged, kept);
        }
    }

    #[test]
    fn narrow_inputs_keep_the_rest_of_rax() {
        let port = |size_bytes| Port {
            number: 0,
            size_bytes,
            direction: Direction::In,
            is_string: false,
        };
        let rax = 0x1111_2222_3333_4444;
        assert_eq!(merge_input(rax, port(1), u32::MAX), 0x1111_2222_3333_44ff);
        assert_eq!(merge_input(rax, port(2), 0), 0x1111_2222_3333_0000);
        assert_eq!(merge_input(rax, port(4), 7), 7);
    }
}
