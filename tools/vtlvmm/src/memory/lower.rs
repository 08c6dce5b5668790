// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Implements `vm-memory`'s traits for mapped memory of a lower VTL.

// UNSAFETY: passes a mapping to a library that accesses it by itself.
#![expect(unsafe_code)]

use vm_memory::{
    GuestAddress, GuestMemoryError, GuestMemoryRegion, GuestMemoryRegionBytes,
    GuestRegionCollection, GuestUsize, MemoryRegionAddress, VolatileSlice,
};
use vtl::LowerMemory;

/// All memory of a guest.
pub type LowerRam = GuestRegionCollection<Piece>;

/// One mapping.
#[derive(Debug)]
pub struct Piece(LowerMemory);

impl Piece {
    /// Where it is.
    pub fn range(&self) -> vtl::GpaRange {
        self.0.range()
    }
}

impl From<LowerMemory> for Piece {
    fn from(memory: LowerMemory) -> Self {
        Self(memory)
    }
}

impl GuestMemoryRegion for Piece {
    type B = ();

    fn len(&self) -> GuestUsize {
        self.0.range().len()
    }

    fn start_addr(&self) -> GuestAddress {
        GuestAddress(self.0.range().base())
    }

    fn bitmap(&self) {}

    fn get_slice(
        &self,
        offset: MemoryRegionAddress,
        count: usize,
    ) -> Result<VolatileSlice<'_>, GuestMemoryError> {
        let refused = GuestMemoryError::InvalidBackendAddress;
        let first = usize::try_from(offset.0).map_err(|_| refused)?;
        // CAST: widening.
        let end = first.checked_add(count).map(|end| end as u64);
        if end.is_none_or(|end| end > self.len()) {
            return Err(GuestMemoryError::InvalidBackendAddress);
        }
        let start = self.0.as_ptr().wrapping_add(first);
        // SAFETY: the lines above keep `count` bytes from `start` inside the mapping, which lives
        // as long as `self` (`LowerMemory`). There is no Rust reference to these bytes, and the
        // slice accesses them as volatile.
        Ok(unsafe { VolatileSlice::new(start, count) })
    }
}

impl GuestMemoryRegionBytes for Piece {}
