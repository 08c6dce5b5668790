// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Basic exit reasons by number and name [SDM3 appendix C].

/// CPUID.
pub const CPUID: u16 = 10;
/// Triple fault.
pub const TRIPLE_FAULT: u16 = 2;
/// HLT.
pub const HLT: u16 = 12;
/// VMCALL.
pub const VMCALL: u16 = 18;
/// Port input or output.
pub const IO_INSTRUCTION: u16 = 30;
/// RDMSR.
pub const MSR_READ: u16 = 31;
/// WRMSR.
pub const MSR_WRITE: u16 = 32;
/// VM-entry failure: invalid guest state.
pub const ENTRY_FAILURE_GUEST_STATE: u16 = 33;
/// EPT violation.
pub const EPT_VIOLATION: u16 = 48;

/// Name of a basic exit reason.
pub const fn name(reason: u16) -> Option<&'static str> {
    Some(match reason {
        0 => "EXCEPTION_NMI",
        1 => "EXTERNAL_INTERRUPT",
        TRIPLE_FAULT => "TRIPLE_FAULT",
        3 => "INIT_SIGNAL",
        4 => "SIPI_SIGNAL",
        5 => "IO_SMI",
        6 => "OTHER_SMI",
        7 => "INTERRUPT_WINDOW",
        8 => "NMI_WINDOW",
        9 => "TASK_SWITCH",
        CPUID => "CPUID",
        11 => "GETSEC",
        HLT => "HLT",
        13 => "INVD",
        14 => "INVLPG",
        15 => "RDPMC",
        16 => "RDTSC",
        17 => "RSM",
        VMCALL => "VMCALL",
        19 => "VMCLEAR",
        20 => "VMLAUNCH",
        21 => "VMPTRLD",
        22 => "VMPTRST",
        23 => "VMREAD",
        24 => "VMRESUME",
        25 => "VMWRITE",
        26 => "VMXOFF",
        27 => "VMXON",
        28 => "CR_ACCESS",
        29 => "DR_ACCESS",
        IO_INSTRUCTION => "IO_INSTRUCTION",
        MSR_READ => "MSR_READ",
        MSR_WRITE => "MSR_WRITE",
        ENTRY_FAILURE_GUEST_STATE => "ENTRY_FAILURE_GUEST_STATE",
        34 => "ENTRY_FAILURE_MSR_LOADING",
        36 => "MWAIT",
        37 => "MONITOR_TRAP_FLAG",
        39 => "MONITOR",
        40 => "PAUSE",
        41 => "ENTRY_FAILURE_MACHINE_CHECK",
        43 => "TPR_BELOW_THRESHOLD",
        44 => "APIC_ACCESS",
        45 => "VIRTUALIZED_EOI",
        46 => "GDTR_IDTR_ACCESS",
        47 => "LDTR_TR_ACCESS",
        EPT_VIOLATION => "EPT_VIOLATION",
        49 => "EPT_MISCONFIGURATION",
        50 => "INVEPT",
        51 => "RDTSCP",
        52 => "PREEMPTION_TIMER",
        53 => "INVVPID",
        54 => "WBINVD",
        55 => "XSETBV",
        56 => "APIC_WRITE",
        57 => "RDRAND",
        58 => "INVPCID",
        59 => "VMFUNC",
        60 => "ENCLS",
        61 => "RDSEED",
        62 => "PML_FULL",
        63 => "XSAVES",
        64 => "XRSTORS",
        65 => "PCONFIG",
        66 => "SPP_EVENT",
        67 => "UMWAIT",
        68 => "TPAUSE",
        69 => "LOADIWKEY",
        70 => "ENCLV",
        71 => "SGX_CONFLICT",
        72 => "ENQCMD_PASID",
        73 => "ENQCMDS_PASID",
        74 => "BUS_LOCK",
        75 => "NOTIFICATION",
        76 => "SEAMCALL",
        77 => "TDCALL",
        _ => return None,
    })
}
