// SPDX-License-Identifier: GPL-2.0
//! Tracks which VTL files have mapped the run page of a VP.
//!
//! The last of them must not leave the host's interrupts enabled for a later user: when it is
//! closed, which is after its last mapping is gone, the run page blocks all vectors again, as after
//! loading the module.

use kernel::prelude::*;
use kernel::sync::atomic::{AtomicFlag, Relaxed};
use kernel::sync::Arc;

use crate::vp::machine::Machine;

/// The VPs whose run page was mapped through one VTL file.
pub(crate) struct UsedPages {
    machine: Arc<Machine>,
    /// Indexed by CPU number: mapped.
    used: KVec<AtomicFlag>,
}

impl UsedPages {
    /// Starts without any.
    ///
    /// # Errors
    ///
    /// ENOMEM.
    pub(crate) fn new(machine: Arc<Machine>) -> Result<Self> {
        let mut used = KVec::new();
        for _ in 0..machine.num_cpus() {
            used.push(AtomicFlag::new(false), GFP_KERNEL)?;
        }
        Ok(Self { machine, used })
    }

    /// Records that the run page of a VP is being mapped.
    pub(crate) fn note(&self, cpu: u32) {
        let used = self.used.get(cpu as usize); // CAST: u32 fits
        let (Some(used), Some(vp)) = (used, self.machine.vp(cpu)) else {
            return;
        };
        // ORDERING: the thread that finds false counts the file; nothing else depends on the value.
        if !used.xchg(true, Relaxed) {
            vp.add_user();
        }
    }
}

impl Drop for UsedPages {
    fn drop(&mut self) {
        for (used, cpu) in self.used.iter().zip(0..) {
            if used.load(Relaxed) {
                if let Some(vp) = self.machine.vp(cpu) {
                    vp.remove_user();
                }
            }
        }
    }
}
