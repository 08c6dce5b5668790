// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Implements `vm-memory`'s traits for mapped memory of a lower VTL.

// UNSAFETY: passes a mapping to a library that accesses it by itself.
#![expect(unsafe_code)]

use std::sync::Arc;

use vm_memory::{
    GuestAddress, GuestMemoryError, GuestMemoryRegion, GuestMemoryRegionBytes,
    GuestRegionCollection, GuestUsize, MemoryRegionAddress, VolatileSlice,
};
use vtl::LowerMemory;

use super::{Protected, Range};

/// All memory of a guest.
pub type LowerRam = GuestRegionCollection<Piece>;

/// One mapping.
#[derive(Debug)]
pub struct Piece {
    memory: Arc<LowerMemory>,
    /// Not accessible. For this VTL itself everything is.
    protected: Option<Arc<Protected>>,
}

impl Piece {
    /// The same memory, for devices.
    pub fn for_devices(&self, protected: &Arc<Protected>) -> Self {
        Self {
            memory: Arc::clone(&self.memory),
            protected: Some(Arc::clone(protected)),
        }
    }

    fn is_protected(&self, offset: u64, len: u64) -> bool {
        let start = self.memory.range().base() + offset;
        let range = Range::new(start, start + len);
        let protected = self.protected.as_ref();
        protected.is_some_and(|protected| protected.overlaps(range))
    }
}

impl From<LowerMemory> for Piece {
    fn from(memory: LowerMemory) -> Self {
        Self {
            memory: Arc::new(memory),
            protected: None,
        }
    }
}

impl GuestMemoryRegion for Piece {
    type B = ();

    fn len(&self) -> GuestUsize {
        self.memory.range().len()
    }

    fn start_addr(&self) -> GuestAddress {
        GuestAddress(self.memory.range().base())
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
        // CAST: widening.
        if end.is_none_or(|end| end > self.len()) || self.is_protected(offset.0, count as u64) {
            return Err(GuestMemoryError::InvalidBackendAddress);
        }
        let start = self.memory.as_ptr().wrapping_add(first);
        // SAFETY: the lines above keep `count` bytes from `start` inside the mapping, which lives
        // as long as `self` (`LowerMemory`). There is no Rust reference to these bytes, and the
        // slice accesses them as volatile.
        Ok(unsafe { VolatileSlice::new(start, count) })
    }
}

impl GuestMemoryRegionBytes for Piece {}
