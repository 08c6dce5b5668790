// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! A machine made of an array that checks what the model does to it.

use tdx_model::gpa::{Gpa, Level, Rights, VmIndex};
use tdx_model::machine::{FlushScope, L1Mapping, Machine};

/// Bytes of memory.
pub(crate) const MEMORY_BYTES: usize = 8 << 20;

/// Memory, and a source of answers the model cannot foresee.
pub(crate) struct Array {
    memory: Vec<u8>,
    dirty: Vec<usize>,
    /// True if an interrupt for L1 waits.
    pub(crate) is_interrupt_pending: bool,
    /// The time-stamp counter.
    pub(crate) tsc: u64,
}

impl Array {
    pub(crate) fn new() -> Self {
        Self {
            memory: vec![0; MEMORY_BYTES],
            dirty: Vec::new(),
            is_interrupt_pending: false,
            tsc: 0,
        }
    }

    /// The bytes that the model accesses. Accessing others is a bug, for which the emulator would
    /// stop.
    fn range(&mut self, gpa: Gpa, len: usize) -> &mut [u8] {
        let start = usize::try_from(gpa.0).expect("an address in memory");
        let end = start.checked_add(len).expect("an end in memory");
        assert!(end <= MEMORY_BYTES, "{gpa:x?} is outside memory");
        self.dirty.extend((start >> 12)..end.div_ceil(4096));
        self.memory.get_mut(start..end).expect("a range in memory")
    }

    /// Makes all memory zero again.
    pub(crate) fn clear(&mut self) {
        for page in self.dirty.drain(..) {
            self.memory[page << 12..(page + 1) << 12].fill(0);
        }
    }

    /// Writes a word as a guest would.
    pub(crate) fn poke(&mut self, gpa: u64, value: u64) {
        let at = usize::try_from(gpa).unwrap_or(0) % (MEMORY_BYTES - 8);
        self.range(Gpa(at as u64), 8)
            .copy_from_slice(&value.to_le_bytes());
    }
}

impl Machine for Array {
    fn read_memory(&mut self, gpa: Gpa, buf: &mut [u8]) {
        let len = buf.len();
        buf.copy_from_slice(self.range(gpa, len));
    }

    fn write_memory(&mut self, gpa: Gpa, bytes: &[u8]) {
        self.range(gpa, bytes.len()).copy_from_slice(bytes);
    }

    fn zero_memory(&mut self, gpa: Gpa, len_bytes: u64) {
        let len = usize::try_from(len_bytes).expect("a length in memory");
        self.range(gpa, len).fill(0);
    }

    fn l1_mapping_changed(&mut self, _: Gpa, _: Level, _: L1Mapping) {}

    fn l2_mapping_changed(&mut self, _: VmIndex, _: Gpa, _: Level, _: Option<Rights>) {}

    fn flush_l2(&mut self, _: VmIndex, _: FlushScope) {}

    fn flush_l2_everywhere(&mut self) {}

    fn virtual_tsc(&self) -> u64 {
        self.tsc
    }

    fn l1_interrupt_deliverable(&self) -> bool {
        self.is_interrupt_pending
    }

    fn are_rtmrs_busy(&mut self) -> bool {
        self.tsc % 8 == 7
    }

    fn is_interrupted(&mut self) -> bool {
        self.is_interrupt_pending
    }

    fn is_page_busy(&mut self, gpa: Gpa) -> bool {
        gpa.pfn() % 16 == 7
    }

    fn write_xss(&mut self, _: u64) {}
}
