// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Counters, and the recent past of each processor for the last words.

use crate::host::iommu;
use crate::l1_apic::MAX_CPUS;
use crate::smp::CPUS;
use core::sync::atomic::{AtomicU64, Ordering};

/// VMs of a TD: L1 and three L2.
pub const VMS: usize = 4;
/// TDCALL leaves that are counted one by one.
const LEAVES: usize = 32;
/// Exits remembered per processor.
const RECENT: usize = 8;

/// Counters of one processor. Only that processor writes them.
pub struct Stats {
    exits: [AtomicU64; VMS],
    leaves: [AtomicU64; LEAVES],
    old_rights: AtomicU64,
    recent_code: [AtomicU64; RECENT],
    recent_rip: [AtomicU64; RECENT],
    total: AtomicU64,
}

// ORDERING: everything here is relaxed; the counters order nothing and are read at the end.
impl Stats {
    /// All zero.
    pub const fn new() -> Self {
        Self {
            exits: [const { AtomicU64::new(0) }; VMS],
            leaves: [const { AtomicU64::new(0) }; LEAVES],
            old_rights: AtomicU64::new(0),
            recent_code: [const { AtomicU64::new(0) }; RECENT],
            recent_rip: [const { AtomicU64::new(0) }; RECENT],
            total: AtomicU64::new(0),
        }
    }

    /// Counts an exit of VM `vm` and remembers it.
    pub fn count_exit(&self, vm: usize, code: u64, rip: u64) {
        let number = self.total.fetch_add(1, Ordering::Relaxed);
        let slot = (number % RECENT as u64) as usize; // CAST: below RECENT
        self.recent_code[slot].store(code | ((vm as u64) << 56), Ordering::Relaxed);
        self.recent_rip[slot].store(rip, Ordering::Relaxed);
        if let Some(counter) = self.exits.get(vm) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts the use by an L2 of a right that L1 had revoked.
    pub fn count_old_right(&self) {
        self.old_rights.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a TDCALL of L1 by its leaf.
    pub fn count_leaf(&self, rax: u64) {
        let leaf = usize::from(rax as u16); // CAST: the leaf is in the low 16 bits
        self.leaves[leaf.min(LEAVES - 1)].fetch_add(1, Ordering::Relaxed);
    }
}

fn cpus() -> impl Iterator<Item = (usize, &'static Stats)> {
    let is_used = |stats: &Stats| stats.total.load(Ordering::Relaxed) != 0;
    (0..MAX_CPUS)
        .map(|index| (index, &CPUS[index].stats))
        .filter(move |(_, s)| is_used(s))
}

/// Returns true if a processor has made a TDCALL as L1.
pub fn has_tdcalls() -> bool {
    let mut leaves = cpus().flat_map(|(_, stats)| &stats.leaves);
    leaves.any(|counter| counter.load(Ordering::Relaxed) != 0)
}

/// Logs one line of exits per processor and VM, and at level debug the TDCALLs per leaf.
pub fn report_summary() {
    for (index, stats) in cpus() {
        let [l1, vm1, vm2, vm3] = &stats.exits;
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        crate::log!(
            Info,
            "summary: vCPU {index} exits: L1 {} VM1 {} VM2 {} VM3 {}, stale rights used: {}",
            get(l1),
            get(vm1),
            get(vm2),
            get(vm3),
            get(&stats.old_rights)
        );
    }
    let refused = iommu::refusals();
    if refused != 0 {
        crate::log!(Info, "summary: accesses refused to devices: {refused}");
    }
    for leaf in 0..LEAVES {
        let count = |(_, stats): (usize, &Stats)| stats.leaves[leaf].load(Ordering::Relaxed);
        let total: u64 = cpus().map(count).sum();
        if total != 0 {
            crate::log!(Debug, "summary: TDCALL leaf {leaf}: {total}");
        }
    }
}

/// Prints the latest exits of every processor, oldest first.
pub fn report_recent_exits() {
    for (index, stats) in cpus() {
        let total = stats.total.load(Ordering::Relaxed);
        for number in total.saturating_sub(RECENT as u64)..total {
            let slot = (number % RECENT as u64) as usize; // CAST: below RECENT
            let code = stats.recent_code[slot].load(Ordering::Relaxed);
            let rip = stats.recent_rip[slot].load(Ordering::Relaxed);
            let (vm, code) = (code >> 56, code & 0x00ff_ffff_ffff_ffff);
            crate::console::line(format_args!(
                "vCPU {index} VM {vm} exit {code:#x} rip {rip:#x}"
            ));
        }
    }
}
