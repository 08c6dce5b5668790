// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! L1's processors as L1 numbers them: APIC ID and VCPU_INDEX are one number, which counts from 0.
//!
//! QEMU's first processor is not among them (`boot.rs`), so the physical APIC IDs differ.
//! Everything that carries an APIC ID between L1 and the machine is translated here to and from
//! processor numbers; only `smp` knows the physical APIC of a number. [SDM3 12.12]

use tdx_model::cpuid::CpuidResult;

/// A set of processors, a bit for each number.
pub type Targets = u64;

/// Most processors a TD can have here.
pub const MAX_CPUS: usize = Targets::BITS as usize;

/// Delivery modes of an interrupt command and of a redirection entry.
pub mod mode {
    #![allow(missing_docs)]
    pub const FIXED: u32 = 0;
    pub const LOWEST_PRIORITY: u32 = 1;
    pub const NMI: u32 = 4;
    pub const EXTINT: u32 = 7;
}

const VECTOR: u32 = 0xff;
const LOGICAL: u32 = 1 << 11;
const BROADCAST: u32 = u32::MAX;

/// All processors of the TD.
fn everyone(count: usize) -> Targets {
    Targets::MAX >> (Targets::BITS as usize - count)
}

fn only(number: usize, count: usize) -> Targets {
    if number < count { 1 << number } else { 0 }
}

/// Logical x2APIC ID: a cluster of sixteen, and a bit in it.
pub const fn logical_id(number: usize) -> u32 {
    (((number >> 4) << 16) | (1 << (number & 15))) as u32 // CAST: below 64
}

/// Those of a cluster whose bit is set.
fn logical_targets(cluster: u32, bits: u32, count: usize) -> Targets {
    let first = 16 * cluster as usize;
    (0..16)
        .filter(|bit| (bits >> bit) & 1 != 0)
        .fold(0, |targets, bit| targets | only(first + bit, count))
}

/// The lowest number of a set, as a set.
fn lowest(targets: Targets) -> Targets {
    targets & targets.wrapping_neg()
}

/// A write to the interrupt command register, decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipi {
    /// Whom it is for.
    pub targets: Targets,
    /// Delivery mode.
    pub mode: u32,
    /// Vector, level and trigger mode, as in the register.
    pub rest: u32,
}

impl Ipi {
    /// Decodes the value that processor `own` of `count` writes.
    pub fn decode(value: u64, own: usize, count: usize) -> Self {
        const LEVEL_AND_TRIGGER: u32 = 3 << 14;
        // CAST: halves.
        let (low, destination) = (value as u32, (value >> 32) as u32);
        let targets = match (low >> 18) & 3 {
            0 if destination == BROADCAST => everyone(count),
            0 if low & LOGICAL != 0 => {
                logical_targets(destination >> 16, destination & 0xffff, count)
            }
            0 => only(destination as usize, count),
            1 => only(own, count),
            2 => everyone(count),
            _ => everyone(count) & !only(own, count),
        };
        let (mode, targets) = match (low >> 8) & 7 {
            mode::LOWEST_PRIORITY => (mode::FIXED, lowest(targets)),
            mode => (mode, targets),
        };
        Self {
            targets,
            mode,
            rest: low & (VECTOR | LEVEL_AND_TRIGGER),
        }
    }
}

/// Bits of a redirection entry's low word that select destination and delivery mode.
pub const ROUTING: u32 = (7 << 8) | LOGICAL;
/// Masked.
pub const MASKED: u32 = 1 << 16;

/// The processor that a redirection entry names, and its low word with a physical destination.
///
/// Here an entry has one destination: if it names several, this is the one with the lowest number.
/// Delivery modes that would affect the processor itself, and destinations that do not exist, give
/// none.
pub fn redirection(low: u32, high: u32, count: usize) -> (Option<usize>, u32) {
    let destination = high >> 24;
    let targets = match low & LOGICAL {
        0 => only(destination as usize, count),
        _ => logical_targets(0, destination, count),
    };
    let mode = match (low >> 8) & 7 {
        mode::LOWEST_PRIORITY => Some(mode::FIXED),
        mode @ (mode::FIXED | mode::EXTINT) => Some(mode),
        _ => None,
    };
    let target = mode.and(lowest(targets).checked_ilog2());
    let routed = (low & !ROUTING) | (mode.unwrap_or(mode::FIXED) << 8);
    // CAST: below 64.
    (target.map(|target| target as usize), routed)
}

/// Puts the numbers into what CPUID says of a processor: APIC ID, and how many there are. Leaves 1
/// and 4 agree, as on a host that offers a plain topology: it is all that Linux has if leaf 0xb is a #VE.
pub fn renumber_cpuid(leaf: u32, number: usize, count: usize, value: &mut CpuidResult) {
    const CORES: u32 = 2;
    const LEVEL_TYPE: u32 = 0xff00;
    const CACHE_TYPE: u32 = 0x1f;
    // CAST: below 64.
    let (number, count) = (number as u32, count as u32);
    match leaf {
        1 => value.ebx = (value.ebx & 0xffff) | (count << 16) | (number << 24),
        4 if value.eax & CACHE_TYPE != 0 => {
            let highest = count.next_power_of_two() - 1;
            let sharing = ((value.eax >> 14) & 0xfff).min(highest);
            value.eax = (value.eax & 0x3fff) | (sharing << 14) | (highest << 26);
        }
        0xb | 0x1f if *value != CpuidResult::default() => {
            value.edx = number;
            if value.ecx & LEVEL_TYPE == CORES << 8 {
                value.ebx = (value.ebx & !0xffff) | count;
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOGICAL_MODE: u64 = 1 << 11;

    fn ipi(destination: u32, low: u64) -> Ipi {
        Ipi::decode((u64::from(destination) << 32) | low, 2, 20)
    }

    #[test]
    fn a_physical_destination_is_a_number() {
        let fixed = ipi(5, 0x4041);
        assert_eq!((fixed.targets, fixed.mode, fixed.rest), (1 << 5, 0, 0x4041));
        assert_eq!(ipi(19, 0x41).targets, 1 << 19);
        // L1 has no such processor, though QEMU has one with this APIC ID.
        assert_eq!(ipi(20, 0x41).targets, 0);
        assert_eq!(ipi(0xff, 0x41).targets, 0);
        assert_eq!(ipi(4, 0x4400).mode, mode::NMI);
    }

    #[test]
    fn shorthands_and_broadcasts_reach_all_that_there_are() {
        let all = (1 << 20) - 1;
        assert_eq!(ipi(7, (1 << 18) | 0x41).targets, 1 << 2);
        assert_eq!(ipi(7, (2 << 18) | 0x41).targets, all);
        assert_eq!(ipi(7, (3 << 18) | 0x41).targets, all & !(1 << 2));
        assert_eq!(ipi(BROADCAST, 0x41).targets, all);
        assert_eq!(ipi(BROADCAST, LOGICAL_MODE | 0x41).targets, all);
        assert_eq!(Ipi::decode(2 << 18, 0, 64).targets, u64::MAX);
        assert_eq!(Ipi::decode(3 << 18, 0, 1).targets, 0);
    }

    #[test]
    fn a_logical_destination_is_a_cluster_and_bits() {
        assert_eq!(ipi(0x0000_8011, LOGICAL_MODE).targets, 0x8011);
        // The second cluster has four processors.
        assert_eq!(ipi(0x0001_ffff, LOGICAL_MODE).targets, 0xf << 16);
        assert_eq!(ipi(0x0002_ffff, LOGICAL_MODE).targets, 0);
        assert_eq!(ipi(0xffff_0001, LOGICAL_MODE).targets, 0);
        assert_eq!((logical_id(0), logical_id(17)), (1, 0x0001_0002));
    }

    #[test]
    fn lowest_priority_is_for_one() {
        let one = ipi(0x000c, LOGICAL_MODE | (1 << 8) | 0x41);
        assert_eq!((one.targets, one.mode), (1 << 2, mode::FIXED));
    }

    #[test]
    fn redirection_entries_name_one_processor_by_either_mode() {
        let physical = |id: u32| redirection(0x8031, id << 24, 4);
        assert_eq!(physical(3), (Some(3), 0x8031));
        assert_eq!(physical(4), (None, 0x8031));
        assert_eq!(physical(0xff), (None, 0x8031));
        // Logical, lowest priority: processors 1 and 2.
        let logical = (1 << 11) | (1 << 8) | 0x31;
        assert_eq!(redirection(logical, 6 << 24, 4), (Some(1), 0x31));
        assert_eq!(redirection(logical, 0x30 << 24, 4), (None, 0x31));
        let extint = 7 << 8;
        assert_eq!(redirection(extint, 0, 4), (Some(0), extint));
        for mode in [2, 3, 4, 5, 6] {
            assert_eq!(redirection(mode << 8, 0, 4), (None, 0), "mode {mode}");
        }
    }

    #[test]
    fn cpuid_has_the_numbers_of_l1() {
        let native = CpuidResult {
            eax: 4,
            ebx: 0x0309_0800,
            ecx: 0x201,
            edx: 3,
        };
        let renumbered = |leaf, ecx| {
            let mut value = CpuidResult { ecx, ..native };
            renumber_cpuid(leaf, 2, 8, &mut value);
            (value.eax, value.ebx, value.ecx, value.edx)
        };
        assert_eq!(renumbered(1, 0x201), (4, 0x0208_0800, 0x201, 3));
        assert_eq!(renumbered(0xb, 0x201), (4, 0x0309_0008, 0x201, 2));
        assert_eq!(renumbered(0x1f, 0x100), (4, 0x0309_0800, 0x100, 2));
        assert_eq!(renumbered(2, 0x201), (4, 0x0309_0800, 0x201, 3));
        // Caches: of each processor, and of all nine that QEMU has; then none.
        let cache = |eax, count| {
            let mut value = CpuidResult { eax, ..native };
            renumber_cpuid(4, 2, count, &mut value);
            value.eax
        };
        assert_eq!(cache(0x3c00_0121, 8), 0x1c00_0121);
        assert_eq!(cache(0x3c03_c163, 8), 0x1c01_c163);
        assert_eq!(cache(0x3c03_c163, 5), 0x1c01_c163);
        assert_eq!(cache(0x0400_4163, 1), 0x163);
        assert_eq!(cache(0x3c03_c160, 8), 0x3c03_c160);
        // A leaf that QEMU's processor does not have.
        let mut none = CpuidResult::default();
        renumber_cpuid(0x1f, 2, 8, &mut none);
        assert_eq!(none, CpuidResult::default());
    }
}
