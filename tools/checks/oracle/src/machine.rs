// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! What is below the model while a trace is replayed: memory, and answers that the trace sets.

use tdx_model::gpa::{Gpa, Level, Rights, VmIndex};
use tdx_model::machine::{FlushScope, L1Mapping, Machine};

/// Bytes of memory, and of what the secure EPT can map.
pub(crate) const MEMORY_BYTES: usize = 8 << 20;

pub(crate) struct Answers {
    memory: Vec<u8>,
    pub(crate) tsc: u64,
    pub(crate) interrupt_for_l1: bool,
    pub(crate) interrupted: bool,
    pub(crate) busy_page: Option<u64>,
}

impl Answers {
    pub(crate) fn new() -> Self {
        Self {
            memory: vec![0; MEMORY_BYTES],
            tsc: 0,
            interrupt_for_l1: false,
            interrupted: false,
            busy_page: None,
        }
    }

    /// A word of memory, if it is there.
    pub(crate) fn word(&mut self, gpa: u64) -> Option<&mut [u8; 8]> {
        let start = usize::try_from(gpa).ok()?;
        self.memory.get_mut(start..)?.first_chunk_mut()
    }

    fn range(&mut self, gpa: Gpa, len: usize) -> &mut [u8] {
        let start = usize::try_from(gpa.0).expect("an address in memory");
        self.memory
            .get_mut(start..start + len)
            .expect("the model has checked the address")
    }
}

impl Machine for Answers {
    fn read_memory(&mut self, gpa: Gpa, buf: &mut [u8]) {
        buf.copy_from_slice(self.range(gpa, buf.len()));
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
        self.interrupt_for_l1
    }

    fn is_interrupted(&mut self) -> bool {
        self.interrupted
    }

    fn is_page_busy(&mut self, gpa: Gpa) -> bool {
        self.busy_page == Some(gpa.0)
    }

    fn write_xss(&mut self, _: u64) {}
}
