// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! What the model needs from below: [`tdx_model::machine::Machine`] on this processor.

use crate::cpu::{apic, msr, tsc};
use crate::extra_msrs::XSS;
use crate::host::{debug_port, iommu};
use crate::log;
use crate::mem::guest::GuestMemory;
use crate::mem::npt::AddressSpaces;
use crate::smp::{self, CPUS, CpuShared};
use crate::vp::Vp;
use svm::npt::Rights as NptRights;
use tdx_model::Field;
use tdx_model::gpa::{Gpa, Level, Rights, VmIndex};
use tdx_model::machine::{FlushScope, L1Mapping, Machine};

/// The processor as the model sees it during one call.
pub struct Processor<'w> {
    spaces: &'w mut AddressSpaces,
    memory: GuestMemory,
    tsc_offset: u64,
    index: usize,
    needs_shootdown: bool,
    has_xss: bool,
    takes_interrupts: bool,
    /// What the call wrote to IA32_XSS where the emulator keeps that.
    pub xss: Option<u64>,
}

impl<'w> Processor<'w> {
    /// For one call of the model.
    pub fn new(vp: &Vp, spaces: &'w mut AddressSpaces) -> Self {
        Self {
            spaces,
            memory: vp.platform.memory,
            tsc_offset: vp.clock.offset(),
            index: vp.index,
            needs_shootdown: false,
            has_xss: vp.extra_msrs.has(XSS),
            takes_interrupts: vp.l1.vmcb.save.rflags & RFLAGS_IF != 0,
            xss: None,
        }
    }

    /// Ends the call: on return no processor can use pages any longer that were removed from L1, and no
    /// device begins to. What it has begun goes on, see [`iommu::flush`].
    pub fn finish(self) {
        if self.needs_shootdown {
            iommu::flush();
            smp::shootdown(self.index);
        }
    }
}

const RFLAGS_IF: u64 = 1 << 9;
const POOL: &str = "the frame pool was sized for every page of every VM";

/// The rights as nested-page rights. `None` if SVM can't express them.
pub fn npt_rights(rights: Rights) -> Option<NptRights> {
    rights.contains(Rights::R).then_some(NptRights {
        is_writable: rights.contains(Rights::W),
        // One bit for both modes: TCG has no guest-mode execute trap.
        is_executable: rights.contains(Rights::XS) || rights.contains(Rights::XU),
    })
}

impl Machine for Processor<'_> {
    fn read_memory(&mut self, gpa: Gpa, buf: &mut [u8]) {
        assert!(
            self.memory.read(gpa.0, buf),
            "the model reads {gpa:x?}, which is no guest's"
        );
    }

    fn write_memory(&mut self, gpa: Gpa, bytes: &[u8]) {
        assert!(
            self.memory.write(gpa.0, bytes),
            "the model writes {gpa:x?}, which is no guest's"
        );
    }

    fn zero_memory(&mut self, gpa: Gpa, len_bytes: u64) {
        assert!(
            self.memory.zero(gpa.0, len_bytes),
            "the model clears {gpa:x?}, no guest's"
        );
    }

    fn l1_mapping_changed(&mut self, gpa: Gpa, level: Level, mapping: L1Mapping) {
        let start = gpa.align_down(level).0;
        for page in (start..start + level.len_bytes()).step_by(4096) {
            self.needs_shootdown |= self.spaces.set_l1(Gpa(page), mapping).expect(POOL);
        }
    }

    fn l2_mapping_changed(&mut self, vm: VmIndex, gpa: Gpa, level: Level, rights: Option<Rights>) {
        let nested = rights.map(|rights| {
            npt_rights(rights).unwrap_or_else(|| {
                panic!(
                    "not modelled: rights {:#x} without read for {vm:?}",
                    rights.bits()
                )
            })
        });
        // Other processors in the L2 keep their translations until they exit; the model tracks how
        // long they may use them after that.
        let piece = level.min(Level::Size2M);
        let start = gpa.align_down(level).0;
        // CAST: at most 2 MiB.
        for part in (start..start + level.len_bytes()).step_by(piece.len_bytes() as usize) {
            self.spaces
                .set_l2(vm, Gpa(part), piece, nested)
                .expect(POOL);
        }
    }

    fn flush_l2(&mut self, _vm: VmIndex, scope: FlushScope) {
        // Every VMRUN starts with an empty TLB: what is left are rights that outlive it.
        if scope == FlushScope::Ept {
            CPUS[self.index].flush();
        }
    }

    fn flush_l2_everywhere(&mut self) {
        CPUS.iter().for_each(CpuShared::flush);
        self.needs_shootdown = true;
    }

    fn virtual_tsc(&self) -> u64 {
        tsc::now().wrapping_add(self.tsc_offset)
    }

    fn l1_interrupt_deliverable(&self) -> bool {
        apic::has_deliverable_interrupt()
    }

    fn are_rtmrs_busy(&mut self) -> bool {
        // The world is locked: it is so only where L1 asked for it.
        debug_port::holds_rtmrs()
    }

    fn l2_entry_refused(
        &mut self,
        vm: VmIndex,
        what: &'static str,
        fields: &mut dyn Iterator<Item = (Field, u64)>,
    ) {
        log!(Warn, "{vm:?} can't be entered: not valid: {what}");
        for (field, value) in fields {
            log!(Warn, "  {field:?} {value:#x}");
        }
    }

    /// The interrupts of this machine are L1's: one that L1 does not take would wait for ever.
    fn is_interrupted(&mut self) -> bool {
        debug_port::interrupts_call()
            || (self.takes_interrupts && apic::has_deliverable_interrupt())
    }

    fn is_page_busy(&mut self, _: Gpa) -> bool {
        debug_port::holds_page()
    }

    #[expect(unsafe_code)] // UNSAFETY: WRMSR
    fn write_xss(&mut self, value: u64) {
        if self.has_xss {
            self.xss = Some(value);
            return;
        }
        // SAFETY: the emulator uses no extended state; a processor without the register refuses.
        let done = unsafe { msr::try_write(XSS, value) };
        assert!(
            done.is_some() || value == 0,
            "the processor refuses XSS {value:#x}"
        );
    }
}
