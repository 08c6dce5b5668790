// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The sixteen general-purpose registers of one virtual processor.
//!
//! The order is the x86 register number, which is also the order of
//! L2_ENTER_GUEST_STATE [ABI TDG.VP.ENTER] and of the TDG.VP.VMCALL register mask.

/// General-purpose registers in the order of their x86 numbers.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
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

impl Gprs {
    /// All registers zero.
    pub const ZERO: Self = Self::from_array([0; 16]);

    /// Builds the set from values in register-number order.
    #[must_use]
    pub const fn from_array(v: [u64; 16]) -> Self {
        let [
            rax,
            rcx,
            rdx,
            rbx,
            rsp,
            rbp,
            rsi,
            rdi,
            r8,
            r9,
            r10,
            r11,
            r12,
            r13,
            r14,
            r15,
        ] = v;
        Self {
            rax,
            rcx,
            rdx,
            rbx,
            rsp,
            rbp,
            rsi,
            rdi,
            r8,
            r9,
            r10,
            r11,
            r12,
            r13,
            r14,
            r15,
        }
    }

    /// The values in register-number order.
    #[must_use]
    pub const fn to_array(&self) -> [u64; 16] {
        let Self {
            rax,
            rcx,
            rdx,
            rbx,
            rsp,
            rbp,
            rsi,
            rdi,
            r8,
            r9,
            r10,
            r11,
            r12,
            r13,
            r14,
            r15,
        } = *self;
        [
            rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15,
        ]
    }

    /// The register with this x86 number; numbers wrap at 16.
    #[must_use]
    pub fn get(&self, number: u8) -> u64 {
        self.to_array()
            .get(usize::from(number & 15))
            .copied()
            .unwrap_or(0)
    }

    /// Sets the register with this x86 number; numbers wrap at 16.
    pub fn set(&mut self, number: u8, value: u64) {
        let mut all = self.to_array();
        if let Some(slot) = all.get_mut(usize::from(number & 15)) {
            *slot = value;
        }
        *self = Self::from_array(all);
    }

    /// Zeroes every register the mask does not select: what the host may see of a TDG.VP.VMCALL.
    #[must_use]
    pub fn selected(&self, mask: u32) -> Self {
        let mut out = Self::ZERO;
        for n in 0..16 {
            if mask & (1 << n) != 0 {
                out.set(n, self.get(n));
            }
        }
        out
    }

    /// Takes over from `host` the registers the mask selects and keeps the others.
    pub fn merge(&mut self, host: &Self, mask: u32) {
        for n in 0..16 {
            if mask & (1 << n) != 0 {
                self.set(n, host.get(n));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_follow_the_x86_encoding() {
        let mut g = Gprs::ZERO;
        for n in 0..16 {
            g.set(n, 100 + u64::from(n));
        }
        assert_eq!((g.rax, g.rcx, g.rdx, g.rbx), (100, 101, 102, 103));
        assert_eq!((g.rsp, g.rbp, g.rsi, g.rdi), (104, 105, 106, 107));
        assert_eq!((g.r8, g.r15, g.get(15)), (108, 115, 115));
        assert_eq!(core::mem::offset_of!(Gprs, rdi), 0x38);
        assert_eq!(core::mem::size_of::<Gprs>(), 128);
    }

    #[test]
    fn host_sees_and_changes_only_selected_registers() {
        let mut g = Gprs {
            r10: 1,
            r11: 2,
            rbx: 3,
            ..Gprs::ZERO
        };
        assert_eq!(
            g.selected(1 << 10),
            Gprs {
                r10: 1,
                ..Gprs::ZERO
            }
        );
        g.merge(
            &Gprs {
                r10: 9,
                rbx: 9,
                ..Gprs::ZERO
            },
            1 << 10,
        );
        assert_eq!((g.r10, g.r11, g.rbx), (9, 2, 3));
    }
}
