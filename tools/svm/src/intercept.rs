// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The intercept words of the VMCB as named sets. [APM2 15.13, appendix B]

use bitflags::bitflags;

bitflags! {
    /// Intercepted exception vectors (VMCB offset 8).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    #[repr(transparent)]
    pub struct Exceptions: u32 {
        /// #DB.
        const DB = 1 << 1;
        /// #BP. TCG raises it for INT3 only through [`Misc1::INTN`].
        const BP = 1 << 3;
        /// #UD: how TDCALL and VMCALL arrive on this processor.
        const UD = 1 << 6;
        /// #PF.
        const PF = 1 << 14;
        const _ = !0;
    }

    /// First miscellaneous word (VMCB offset 0Ch).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    #[repr(transparent)]
    pub struct Misc1: u32 {
        /// Physical interrupt.
        const INTR = 1;
        /// Physical NMI.
        const NMI = 1 << 1;
        /// SMI.
        const SMI = 1 << 2;
        /// INIT.
        const INIT = 1 << 3;
        /// A virtual interrupt is about to be delivered: the interrupt window.
        const VINTR = 1 << 4;
        /// CR0 write that changes more than TS and MP.
        const CR0_SELECTIVE = 1 << 5;
        /// SIDT.
        const IDTR_READ = 1 << 6;
        /// SGDT.
        const GDTR_READ = 1 << 7;
        /// SLDT.
        const LDTR_READ = 1 << 8;
        /// STR.
        const TR_READ = 1 << 9;
        /// LIDT.
        const IDTR_WRITE = 1 << 10;
        /// LGDT.
        const GDTR_WRITE = 1 << 11;
        /// LLDT.
        const LDTR_WRITE = 1 << 12;
        /// LTR.
        const TR_WRITE = 1 << 13;
        /// RDTSC.
        const RDTSC = 1 << 14;
        /// RDPMC.
        const RDPMC = 1 << 15;
        /// PUSHF.
        const PUSHF = 1 << 16;
        /// POPF.
        const POPF = 1 << 17;
        /// CPUID.
        const CPUID = 1 << 18;
        /// RSM.
        const RSM = 1 << 19;
        /// IRET.
        const IRET = 1 << 20;
        /// INT n.
        const INTN = 1 << 21;
        /// INVD.
        const INVD = 1 << 22;
        /// PAUSE.
        const PAUSE = 1 << 23;
        /// HLT.
        const HLT = 1 << 24;
        /// INVLPG.
        const INVLPG = 1 << 25;
        /// INVLPGA.
        const INVLPGA = 1 << 26;
        /// IN and OUT to the ports of the I/O permission map.
        const IOIO = 1 << 27;
        /// RDMSR and WRMSR of the registers of the MSR permission map.
        const MSR = 1 << 28;
        /// Task switch.
        const TASK_SWITCH = 1 << 29;
        /// FERR.
        const FERR_FREEZE = 1 << 30;
        /// Shutdown: triple fault.
        const SHUTDOWN = 1 << 31;
    }

    /// Second miscellaneous word (VMCB offset 10h).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    #[repr(transparent)]
    pub struct Misc2: u32 {
        /// VMRUN. Must always be set.
        const VMRUN = 1;
        /// VMMCALL.
        const VMMCALL = 1 << 1;
        /// VMLOAD.
        const VMLOAD = 1 << 2;
        /// VMSAVE.
        const VMSAVE = 1 << 3;
        /// STGI.
        const STGI = 1 << 4;
        /// CLGI.
        const CLGI = 1 << 5;
        /// SKINIT.
        const SKINIT = 1 << 6;
        /// RDTSCP.
        const RDTSCP = 1 << 7;
        /// ICEBP.
        const ICEBP = 1 << 8;
        /// WBINVD and WBNOINVD.
        const WBINVD = 1 << 9;
        /// MONITOR.
        const MONITOR = 1 << 10;
        /// MWAIT.
        const MWAIT = 1 << 11;
        /// XSETBV.
        const XSETBV = 1 << 13;
    }
}

impl Misc2 {
    /// Every instruction of SVM itself: no guest of ours may execute one.
    pub const SVM_INSTRUCTIONS: Self = Self::VMRUN
        .union(Self::VMMCALL)
        .union(Self::VMLOAD)
        .union(Self::VMSAVE)
        .union(Self::STGI)
        .union(Self::CLGI)
        .union(Self::SKINIT);
}
