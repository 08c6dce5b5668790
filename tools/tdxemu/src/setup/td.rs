// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The build of the TD: its memory, and what it is granted.

use super::{Platform, World};
use crate::mem::layout::Layout;
use crate::mem::map::Range;
use crate::mem::npt::AddressSpaces;
use crate::{config, cpu, extra_msrs, smp};
use tdx_model::gpa::{Gpa, Level};
use tdx_model::page_state::{PageEntry, Pages};
use tdx_model::stale::Stale;
use tdx_model::td::{CpuFeatures, FeatureLevel, Td, TdConfig, attributes, config_flags, xfam};

/// How many revoked rights are tracked: as many as a TLB has entries.
const STALE_ROOM: usize = 1024;

/// Builds the TD: measured memory for L1, pending memory for VTL0.
pub fn build(platform: &'static Platform, layout: &Layout) -> Result<World, &'static str> {
    const NO_FRAMES: &str = "the frame pool is too small";
    let pages = usize::try_from(layout.ram.end() / 4096).map_err(|_| NO_FRAMES)?;
    let entries = platform
        .pool
        .allocate_slice::<PageEntry>(pages)
        .ok_or(NO_FRAMES)?;
    let mut td = Td::new(td_config(platform), Pages::new(entries));
    if platform.config.stale != config::Stale::Off {
        let room = platform.pool.allocate_slice(STALE_ROOM).ok_or(NO_FRAMES)?;
        td.stale = Stale::new(room);
    }
    let mut spaces = AddressSpaces::new(&platform.pool).map_err(|_| NO_FRAMES)?;

    for (range, _) in layout.built().iter() {
        td.pages
            .host_add_mapped(Gpa(range.start), range.len_bytes());
        spaces.add_l1(range).map_err(|_| NO_FRAMES)?;
    }
    // Linux searches firmware's area for tables through shared and through private addresses.
    const LEGACY: Range = Range::new(0x9_f000, 0x10_0000);
    for page in (LEGACY.start..LEGACY.end).step_by(4096) {
        if layout.vtl0.kind_at(page).is_none() {
            spaces.map_legacy(page).map_err(|_| NO_FRAMES)?;
        }
    }
    for (range, _) in layout.pending().iter() {
        give_pending(&mut td, range)?;
    }
    Ok(World { td, spaces })
}

/// Gives the TD memory in the largest pages that fit.
fn give_pending(td: &mut Td<'_>, range: Range) -> Result<(), &'static str> {
    let mut gpa = range.start;
    while gpa < range.end {
        let left = Range::new(gpa, range.end);
        let level = match left.contains(gpa, Level::Size2M.len_bytes()) {
            true if gpa % Level::Size2M.len_bytes() == 0 => Level::Size2M,
            _ => Level::Size4K,
        };
        if !td.pages.host_aug_pending(Gpa(gpa), level) {
            return Err("VTL0's memory is not free");
        }
        gpa += level.len_bytes();
    }
    Ok(())
}

fn td_config(platform: &Platform) -> TdConfig {
    let vcpus = smp::count() as u32; // CAST: at most MAX_CPUS
    TdConfig {
        attributes: attributes::SEPT_VE_DISABLE,
        xfam: xfam(platform),
        config_flags: match platform.config.feature_level {
            FeatureLevel::Base => 0,
            FeatureLevel::Later | FeatureLevel::Second => {
                config_flags::PAGE_RELEASE | config_flags::SEALING
            }
        },
        num_vcpus: vcpus,
        max_vcpus: vcpus,
        num_l2_vms: platform.config.l2_vms,
        tsc_khz: platform.tsc_khz as u32, // CAST: below 4 THz
        uuid: [0x6d73_6876_5f76_746c, 0x5f74_6478, 0, 0],
        cpu: cpu_features(platform.config.has_extra_msrs),
        feature_level: platform.config.feature_level,
        l2_tables: platform.config.l2_tables,
    }
}

/// The XSAVE components the processor has, which are granted in full. AMX tile data and CET besides, for
/// their registers, where these are added.
fn xfam(platform: &Platform) -> u64 {
    let user = cpu::cpuid(0xd, 0);
    let supervisor = cpu::cpuid(0xd, 1);
    let extra = match platform.config.has_extra_msrs {
        true => xfam::TILE_DATA | extra_msrs::XSS_CET,
        false => 0,
    };
    extra
        | (u64::from(user.edx) << 32)
        | u64::from(user.eax)
        | (u64::from(supervisor.edx) << 32)
        | u64::from(supervisor.ecx)
}

fn cpu_features(has_extra_msrs: bool) -> CpuFeatures {
    let basic = cpu::cpuid(1, 0);
    let extended = cpu::cpuid(7, 0);
    let supervisor = cpu::cpuid(0xd, 1);
    let xss = match supervisor.eax & 8 {
        _ if has_extra_msrs => extra_msrs::XSS_CET,
        0 => 0,
        _ => (u64::from(supervisor.edx) << 32) | u64::from(supervisor.ecx),
    };
    CpuFeatures {
        cr4_fixed1: cr4_bits(basic.ecx, basic.edx, extended.ebx, extended.ecx),
        xss,
        has_tsx: has_extra_msrs,
        has_waitpkg: has_extra_msrs || extended.ecx & (1 << 5) != 0,
        has_tsc_deadline: basic.ecx & (1 << 24) != 0,
    }
}

/// CR4 bits the processor takes, and VMXE, which every TDX processor has.
fn cr4_bits(leaf1_ecx: u32, leaf1_edx: u32, leaf7_ebx: u32, leaf7_ecx: u32) -> u64 {
    const VMXE: u64 = 1 << 13;
    // VME, PVI, TSD, DE, PSE, PAE, MCE, PGE, PCE, OSFXSR, OSXMMEXCPT.
    const ALWAYS: u64 = 0x7ff;
    let bits = [
        (leaf7_ecx & (1 << 2) != 0, 11),  // UMIP
        (leaf7_ecx & (1 << 16) != 0, 12), // LA57
        (leaf7_ebx & 1 != 0, 16),         // FSGSBASE
        (leaf1_ecx & (1 << 17) != 0, 17), // PCIDE
        (leaf1_ecx & (1 << 26) != 0, 18), // OSXSAVE
        (leaf7_ebx & (1 << 7) != 0, 20),  // SMEP
        (leaf7_ebx & (1 << 20) != 0, 21), // SMAP
        (leaf7_ecx & (1 << 3) != 0, 22),  // PKE
    ];
    let has_mce = leaf1_edx & (1 << 7) != 0;
    let base = if has_mce {
        ALWAYS | VMXE
    } else {
        (ALWAYS | VMXE) & !(1 << 6)
    };
    bits.iter()
        .filter(|(has, _)| *has)
        .fold(base, |word, (_, bit)| word | (1u64 << bit))
}
