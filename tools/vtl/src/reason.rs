// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Basic exit reasons by number and name [SDM3 appendix C].

/// Exception or NMI.
pub const EXCEPTION_NMI: u16 = 0;
/// Triple fault.
pub const TRIPLE_FAULT: u16 = 2;
/// INIT.
pub const INIT_SIGNAL: u16 = 3;
/// Start-up IPI.
pub const SIPI_SIGNAL: u16 = 4;
/// Interrupt window.
pub const INTERRUPT_WINDOW: u16 = 7;
/// NMI window.
pub const NMI_WINDOW: u16 = 8;
/// CPUID.
pub const CPUID: u16 = 10;
/// HLT.
pub const HLT: u16 = 12;
/// VMCALL.
pub const VMCALL: u16 = 18;
/// Access to a control register.
pub const CR_ACCESS: u16 = 28;
/// Access to a debug register.
pub const DR_ACCESS: u16 = 29;
/// Port input or output.
pub const IO_INSTRUCTION: u16 = 30;
/// RDMSR.
pub const MSR_READ: u16 = 31;
/// WRMSR.
pub const MSR_WRITE: u16 = 32;
/// VM-entry failure: invalid guest state.
pub const ENTRY_FAILURE_GUEST_STATE: u16 = 33;
/// TPR below threshold.
pub const TPR_BELOW_THRESHOLD: u16 = 43;
/// Virtualized EOI.
pub const VIRTUALIZED_EOI: u16 = 45;
/// EPT violation.
pub const EPT_VIOLATION: u16 = 48;
/// Preemption timer: the deadline of the lower VTL.
pub const PREEMPTION_TIMER: u16 = 52;
/// WBINVD or WBNOINVD.
pub const WBINVD: u16 = 54;
/// XSETBV.
pub const XSETBV: u16 = 55;
/// APIC write.
pub const APIC_WRITE: u16 = 56;

/// Name of a basic exit reason.
pub const fn name(reason: u16) -> Option<&'static str> {
    Some(match reason {
        EXCEPTION_NMI => "EXCEPTION_NMI",
        1 => "EXTERNAL_INTERRUPT",
        TRIPLE_FAULT => "TRIPLE_FAULT",
        INIT_SIGNAL => "INIT_SIGNAL",
        SIPI_SIGNAL => "SIPI_SIGNAL",
        5 => "IO_SMI",
        6 => "OTHER_SMI",
        INTERRUPT_WINDOW => "INTERRUPT_WINDOW",
        NMI_WINDOW => "NMI_WINDOW",
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
        CR_ACCESS => "CR_ACCESS",
        DR_ACCESS => "DR_ACCESS",
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
        TPR_BELOW_THRESHOLD => "TPR_BELOW_THRESHOLD",
        44 => "APIC_ACCESS",
        VIRTUALIZED_EOI => "VIRTUALIZED_EOI",
        46 => "GDTR_IDTR_ACCESS",
        47 => "LDTR_TR_ACCESS",
        EPT_VIOLATION => "EPT_VIOLATION",
        49 => "EPT_MISCONFIGURATION",
        50 => "INVEPT",
        51 => "RDTSCP",
        PREEMPTION_TIMER => "PREEMPTION_TIMER",
        53 => "INVVPID",
        WBINVD => "WBINVD",
        XSETBV => "XSETBV",
        APIC_WRITE => "APIC_WRITE",
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
