// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! An L2 VM on this processor: its start state, entry, exit, and the words of the tests.

use crate::cpu::{self, CPUS, Registers, guest, peek, peek32, poke, poke32};
use crate::tdx::{self, leaf, rights, status, vmcs};
use core::sync::atomic::AtomicU64;

/// Basic exit reasons.
pub mod reason {
    #![allow(missing_docs)]
    pub const EXCEPTION: u64 = 0;
    pub const TRIPLE_FAULT: u64 = 2;
    pub const INTERRUPT_WINDOW: u64 = 7;
    pub const NMI_WINDOW: u64 = 8;
    pub const CPUID: u64 = 10;
    pub const HLT: u64 = 12;
    pub const VMCALL: u64 = 18;
    pub const CR_ACCESS: u64 = 28;
    pub const RDMSR: u64 = 31;
    pub const WRMSR: u64 = 32;
    pub const TPR_BELOW_THRESHOLD: u64 = 43;
    pub const VIRTUALIZED_EOI: u64 = 45;
    pub const EPT_VIOLATION: u64 = 48;
    pub const PREEMPTION_TIMER: u64 = 52;
    pub const TDCALL: u64 = 77;
}

/// Numbers the L2 calls with.
pub const LOOP: u64 = 0xc0;
/// An exception arrived.
pub const EXCEPTION: u64 = 0xee;
/// An interrupt arrived.
pub const INTERRUPT: u64 = 0x1e0;

/// General registers of an L2 in its state buffer.
pub mod reg {
    #![allow(missing_docs)]
    pub const RAX: u64 = 0;
    pub const RCX: u64 = 1;
    pub const RDX: u64 = 2;
    pub const RBX: u64 = 3;
    pub const RSP: u64 = 4;
    pub const RSI: u64 = 6;
    pub const RDI: u64 = 7;
    pub const R8: u64 = 8;
    pub const R9: u64 = 9;
    pub const R10: u64 = 10;
    pub const R11: u64 = 11;
    pub const R12: u64 = 12;
    pub const R13: u64 = 13;
    pub const RFLAGS: u64 = 16;
    pub const RIP: u64 = 17;
}

/// Interrupts enabled.
pub const RFLAGS_IF: u64 = 1 << 9;

/// Why a test failed: the line, and the values.
#[derive(Clone, Copy, Debug)]
pub struct Fail {
    /// Line.
    pub line: u32,
    /// File.
    pub file: &'static str,
    /// What was checked.
    pub what: &'static str,
    /// What it was.
    pub got: u64,
    /// What it should have been.
    pub want: u64,
}

/// How a test ends.
pub type Outcome = Result<(), Fail>;

/// Compares two numbers.
macro_rules! equal {
    ($got:expr, $want:expr) => {{
        let (got, want) = ($got, $want);
        if got != want {
            return Err($crate::vm::Fail {
                line: line!(),
                file: file!(),
                what: stringify!($got),
                got,
                want,
            });
        }
    }};
}
pub(crate) use equal;

#[repr(C, align(4096))]
struct Page([AtomicU64; 512]);

impl Page {
    const fn new() -> Self {
        Self([const { AtomicU64::new(0) }; 512])
    }
}

/// Pages of each VM of each processor.
type Pages = [[Page; 3]; CPUS];

static STATES: Pages = [const { [const { Page::new() }; 3] }; CPUS];
static VAPICS: Pages = [const { [const { Page::new() }; 3] }; CPUS];
/// Stacks of the L2s of other processors than the first.
static L2_STACKS: [Page; CPUS] = [const { Page::new() }; CPUS];

/// An L2 VM, as this processor sees it.
pub struct Vm {
    /// The processor.
    cpu: usize,
    /// Its number, 1 to 3.
    pub number: u64,
    /// Operands of the next entry besides the VM number.
    pub invalidate: u64,
    /// What the latest TDG.VP.ENTER returned.
    pub exit: Registers,
}

impl Vm {
    /// The VM; nothing is written yet.
    pub fn new(number: u64) -> Self {
        Self {
            cpu: cpu::index(),
            number,
            invalidate: 0,
            exit: [0; 16],
        }
    }

    /// Its state buffer.
    pub fn state(&self) -> u64 {
        STATES[self.cpu][self.number as usize - 1].0.as_ptr() as u64
    }

    /// Its virtual-APIC page.
    pub fn vapic(&self) -> u64 {
        VAPICS[self.cpu][self.number as usize - 1].0.as_ptr() as u64
    }

    /// A register of the L2.
    pub fn get(&self, register: u64) -> u64 {
        peek(self.state() + 8 * register)
    }

    /// Changes a register of the L2.
    pub fn set(&self, register: u64, value: u64) {
        poke(self.state() + 8 * register, value);
    }

    /// RVI in bits 7:0, SVI in bits 15:8.
    pub fn interrupt_status(&self) -> u64 {
        peek(self.state() + 0x98) & 0xffff
    }

    /// Changes RVI and SVI.
    pub fn set_interrupt_status(&self, status: u64) {
        poke(self.state() + 0x98, status);
    }

    /// A register of the virtual APIC.
    pub fn apic(&self, offset: u64) -> u64 {
        u64::from(peek32(self.vapic() + offset))
    }

    /// Sets a bit in the virtual IRR.
    pub fn request(&self, vector: u64) {
        let at = self.vapic() + 0x200 + (vector / 32) * 16;
        poke32(at, peek32(at) | (1 << (vector % 32)));
    }

    /// A VMCS field.
    pub fn read(&self, field: u64) -> u64 {
        tdx::read(tdx::field_id(self.number, field))
    }

    /// Writes a VMCS field.
    pub fn write(&self, field: u64, value: u64) -> Outcome {
        self.write_bits(field, value, tdx::field_mask(field))
    }

    /// Writes some bits of a VMCS field.
    pub fn write_bits(&self, field: u64, value: u64, mask: u64) -> Outcome {
        let status = tdx::write(tdx::field_id(self.number, field), value, mask);
        if status == 0 {
            return Ok(());
        }
        Err(Fail {
            line: line!(),
            file: "TDG.VP.WR of field in `want`",
            what: "status",
            got: status,
            want: field,
        })
    }

    /// Opens or closes an MSR to the L2.
    pub fn pass_msr(&self, index: u32, is_write: bool, passes: bool) -> Outcome {
        let bit = u64::from(index & 0x1fff);
        let half = if index >> 31 != 0 { 128 } else { 0 } + if is_write { 256 } else { 0 };
        let id = tdx::msr_bitmap_id(self.number, half + bit / 64);
        equal!(
            tdx::write(id, if passes { 0 } else { u64::MAX }, 1 << (bit % 64)),
            0
        );
        Ok(())
    }

    /// Writes everything that the start of an L2 depends on; paging and mode are the caller's.
    fn reset(&mut self) -> Outcome {
        for word in 0..512 {
            poke(self.vapic() + 8 * word, 0);
        }
        for word in 0..20 {
            poke(self.state() + 8 * word, 0);
        }
        self.invalidate = 1;
        self.set(reg::RFLAGS, 2);
        for word in 0..512 {
            equal!(
                tdx::write(tdx::msr_bitmap_id(self.number, word), u64::MAX, u64::MAX),
                0
            );
        }
        equal!(tdx::write(tdx::l2_ctls_id(self.number), 0, 7), 0);
        equal!(
            tdx::write(tdx::tsc_deadline_id(self.number), u64::MAX, u64::MAX),
            0
        );
        self.write(vmcs::VIRTUAL_APIC_ADDRESS, self.vapic())?;
        // The L2 owns PE, PG and most of CR4; NW, CD and NE are ours.
        self.write(vmcs::CR0_SHADOW, 0x20)?;
        self.write(vmcs::CR0_MASK, 0x6000_0020)?;
        self.write(vmcs::CR4_SHADOW, 0)?;
        self.write(vmcs::CR4_MASK, 0x2040)?;
        // INVLPG, RDTSC, CR3, CR8, MOV DR, windows, PAUSE; descriptor tables.
        const PRIMARY: u64 = (1 << 9)
            | (1 << 12)
            | (3 << 15)
            | (3 << 19)
            | (1 << 23)
            | (1 << 30)
            | (1 << 2)
            | (1 << 22);
        self.write_bits(vmcs::PRIMARY_CONTROLS, 0, PRIMARY)?;
        self.write_bits(vmcs::SECONDARY_CONTROLS, 1 << 9, (1 << 2) | (1 << 9))?;
        self.write_bits(vmcs::EXCEPTION_BITMAP, 0, 0xfffb_ffff)?;
        for field in [
            vmcs::PAGE_FAULT_MASK,
            vmcs::PAGE_FAULT_MATCH,
            vmcs::TPR_THRESHOLD,
        ] {
            self.write(field, 0)?;
        }
        for field in [vmcs::ENTRY_EVENT, vmcs::INTERRUPTIBILITY] {
            self.write(field, 0)?;
        }
        for bitmap in 0..4 {
            self.write(vmcs::EOI_EXIT_BITMAP_0 + 2 * bitmap, 0)?;
        }
        self.write(vmcs::DR7, 0x400)?;
        self.segment(6, 0, 0, 0, 0x1_0000)?;
        self.segment(7, 48, guest::l2_task(), 0x67, 0x8b)?;
        let gdt = u64::from(peek32(guest::l2_gdt_pointer() + 2));
        self.table(0x6816, 0x4810, gdt, 71)?;
        self.table(0x6818, 0x4812, guest::l2_idt(), 0xfff)
    }

    fn table(&self, base_field: u64, limit_field: u64, base: u64, limit: u64) -> Outcome {
        self.write(base_field, base)?;
        self.write(limit_field, limit)
    }

    /// ES, CS, SS, DS, FS, GS, LDTR, TR by number.
    fn segment(&self, number: u64, selector: u64, base: u64, limit: u64, access: u64) -> Outcome {
        self.write(0x800 + 2 * number, selector)?;
        self.write(0x6806 + 2 * number, base)?;
        self.write(0x4800 + 2 * number, limit)?;
        self.write(0x4814 + 2 * number, access)
    }

    /// Real mode at `l2_real_mode`.
    pub fn start_real(&mut self) -> Outcome {
        self.reset()?;
        self.write(vmcs::CR0, 0x20)?;
        self.write(vmcs::CR3, 0)?;
        self.write(vmcs::CR4, 0x2040)?;
        self.write(vmcs::GUEST_EFER, 0x800)?;
        self.write_bits(vmcs::ENTRY_CONTROLS, 0, 0x200)?;
        for number in [0, 2, 3, 4, 5] {
            self.segment(number, 0, guest::l2_real_mode(), 0xffff, 0x93)?;
        }
        self.segment(1, 0, guest::l2_real_mode(), 0xffff, 0x9b)?;
        self.set(reg::RSP, 0x7000);
        Ok(())
    }

    /// 64-bit mode, run to the loop.
    pub fn start(&mut self) -> Outcome {
        self.reset()?;
        self.write(vmcs::CR0, 0x8000_0021)?;
        self.write(vmcs::CR3, guest::l2_pml4())?;
        self.write(vmcs::CR4, 0x2040 | 0x220)?;
        self.write(vmcs::GUEST_EFER, 0xd01)?;
        self.write_bits(vmcs::ENTRY_CONTROLS, 0x200, 0x200)?;
        for number in [0, 2, 3, 4, 5] {
            self.segment(number, 16, 0, 0xffff_ffff, 0xc093)?;
        }
        self.segment(1, 24, 0, 0xffff_ffff, 0xa09b)?;
        let stack_top = match self.cpu {
            0 => guest::l2_stack_top(),
            cpu => L2_STACKS[cpu].0.as_ptr() as u64 + 4096,
        };
        self.set(reg::RSP, stack_top);
        self.set(reg::RIP, guest::l2_loop());
        self.call_returns()
    }

    /// Where the L2 is in the loop, it shall call this next.
    pub fn call(&self, routine: u64) {
        self.set(reg::RDI, routine);
    }

    /// The operands of TDG.VP.ENTER.
    pub fn enter_with(&mut self, rcx: u64, rdx: u64) -> u64 {
        self.exit = [0; 16];
        (self.exit[0], self.exit[1], self.exit[2]) = (leaf::VP_ENTER, rcx, rdx);
        cpu::tdcall(&mut self.exit);
        self.exit[0] >> 32
    }

    /// Runs the L2; returns the upper half of RAX.
    pub fn enter(&mut self) -> u64 {
        let rcx = (self.number << 52) | self.invalidate;
        self.invalidate = 0;
        self.enter_with(rcx, self.state())
    }

    /// Runs the L2 to an exit that must have this reason.
    pub fn expect(&mut self, reason: u64) -> Outcome {
        equal!(self.enter(), status::SUCCESS);
        equal!(self.exit[0] & 0xffff_ffff, reason);
        Ok(())
    }

    /// Runs the L2 to a VMCALL with this number, and after it.
    pub fn expect_vmcall(&mut self, number: u64) -> Outcome {
        self.expect(reason::VMCALL)?;
        equal!(self.get(reg::RAX) & 0xffff_ffff, number);
        equal!(self.length(), 3);
        self.skip();
        Ok(())
    }

    /// Runs a routine, which must return to the loop.
    pub fn call_returns(&mut self) -> Outcome {
        self.expect_vmcall(LOOP)
    }

    /// An exception arrives in the L2.
    pub fn expect_exception(&mut self, vector: u64, error: u64) -> Outcome {
        self.expect_vmcall(EXCEPTION)?;
        equal!(self.get(reg::R8), vector);
        equal!(self.get(reg::R10), error);
        Ok(())
    }

    /// An interrupt arrives in the L2.
    pub fn expect_interrupt(&mut self, vector: u64) -> Outcome {
        self.expect_vmcall(INTERRUPT)?;
        equal!(self.get(reg::R8), vector);
        Ok(())
    }

    /// Where the handler that calls us returns to.
    pub fn set_return(&self, rip: u64) {
        poke(self.get(reg::RSP) + 56, rip);
    }

    /// Length of the instruction that left.
    pub fn length(&self) -> u64 {
        self.exit[11] >> 32
    }

    /// Puts the L2 after the instruction that left.
    pub fn skip(&self) {
        self.set(reg::RIP, self.get(reg::RIP) + self.length());
    }

    /// An instruction that leaves with this reason and is stepped over.
    pub fn expect_skip(&mut self, reason: u64, length: u64) -> Outcome {
        self.expect(reason)?;
        equal!(self.length(), length);
        self.skip();
        Ok(())
    }

    /// Gives the L2 the pages of this program.
    pub fn grant_image(&self) -> Outcome {
        let (start, end) = cpu::image();
        for page in (start..end).step_by(4096) {
            equal!(tdx::set_rights(self.number, page, rights::ALL), 0);
        }
        Ok(())
    }
}
