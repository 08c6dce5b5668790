// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The I/O permission map: one bit per port, three pages. [APM2 15.10]

/// I/O permission map. The third page covers accesses that wrap past port FFFFh.
#[repr(C, align(4096))]
#[derive(Clone)]
pub struct Iopm([u8; 3 * 4096]);

impl Iopm {
    /// A map that intercepts every port.
    pub const ALL: Self = Self([0xff; 3 * 4096]);
}
