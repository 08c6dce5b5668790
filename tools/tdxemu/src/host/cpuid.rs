// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! TDG.VP.VMCALL<Instruction.CPUID>: the hypervisor leaves.
//!
//! The generic host has KVM's signature, without any paravirtual feature: Linux keeps x2APIC mode
//! only under a hypervisor that it knows to support it.

use super::timers;
use crate::config::HostKind;
use crate::hyperv;
use tdx_model::gprs::Gprs;

const SIGNATURE_LEAF: u64 = 0x4000_0000;
const FEATURES_LEAF: u64 = 0x4000_0001;

/// Answers in R12 to R15 (EAX, EBX, ECX, EDX).
pub fn cpuid(host: HostKind, gprs: &mut Gprs) {
    if host == HostKind::HyperV {
        // CPUID takes 32 bits; no larger leaf exists.
        let leaf = u32::try_from(gprs.r12).unwrap_or(0);
        let [eax, ebx, ecx, edx] = hyperv::cpuid(leaf, timers::are_offered());
        (gprs.r12, gprs.r13) = (u64::from(eax), u64::from(ebx));
        (gprs.r14, gprs.r15) = (u64::from(ecx), u64::from(edx));
        return;
    }
    let word = |bytes: [u8; 4]| u64::from(u32::from_le_bytes(bytes));
    (gprs.r12, gprs.r13, gprs.r14, gprs.r15) = match gprs.r12 {
        SIGNATURE_LEAF => (
            FEATURES_LEAF,
            word(*b"KVMK"),
            word(*b"VMKV"),
            word(*b"M\0\0\0"),
        ),
        _ => (0, 0, 0, 0),
    };
}
