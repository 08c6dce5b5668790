// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! VTL1's memory and rights, and the answers to its exits: hypercalls, the MSR of its assist page,
//! reports.

use vtl::{Exception, Exit, GpaRange, Gpr, LowerMemory, PageRights, Vm, Vtl};
use vtl1::hypercall::{Completion, ProtectInput, status};
use vtl1::ranges::PAGE;

use crate::layout::{self, ASSIST, HYPERCALL, VTL1_LEN};
use crate::{CrashReport, Error, Result};

/// HV_X64_MSR_VP_ASSIST_PAGE, and its enable bit.
const VP_ASSIST_PAGE: u32 = 0x4000_0073;
const ASSIST_ENABLE: u64 = 1;
/// HV_X64_MSR_CRASH_P0 to P4, and HV_X64_MSR_CRASH_CTL with CrashMessage.
const CRASH_P0: u32 = 0x4000_0100;
const CRASH_CTL: u32 = CRASH_P0 + 5;
const CRASH_MESSAGE: u64 = 1 << 62;

/// Answers VTL1's exits. When it is dropped, VTL1 has no rights any more, and its memory is zero.
pub(crate) struct Server {
    vtl: Vtl,
    /// VTL1's memory.
    memory: LowerMemory,
    image_len: u64,
    vtl0: Vec<GpaRange>,
    crash: [u64; 5],
    /// Pages whose rights have changed, until somebody takes them.
    protected: Vec<GpaRange>,
}

impl Server {
    /// For VTL1's memory `own`, which is accepted, and VTL0's.
    pub(crate) fn new(
        vtl: Vtl,
        own: GpaRange,
        vtl0: Vec<GpaRange>,
        image_len: u64,
    ) -> vtl::Result<Self> {
        Ok(Self {
            vtl,
            memory: LowerMemory::map(own)?,
            image_len,
            vtl0,
            crash: [0; 5],
            protected: Vec::new(),
        })
    }

    /// VTL1's memory.
    pub(crate) fn memory(&self) -> &LowerMemory {
        &self.memory
    }

    /// Returns, once, the pages that VTL0 can't write to since the last call.
    pub(crate) fn take_protected(&mut self) -> Vec<GpaRange> {
        core::mem::take(&mut self.protected)
    }

    /// VTL1 has its memory alone. In VTL0's it can execute nothing.
    pub(crate) fn set_rights(&self) -> vtl::Result<()> {
        let (vtl, own) = (&self.vtl, self.memory.range());
        vtl.set_rights(&own, Vm::VTL0, PageRights::NONE)?;
        vtl.set_rights(&own, Vm::VTL1, PageRights::ALL)?;
        let read_write = PageRights::NONE.with_read(true).with_write(true);
        for range in &self.vtl0 {
            vtl.set_rights(range, Vm::VTL1, read_write)?;
        }
        Ok(())
    }

    /// Returns a report if VTL1 has ended.
    pub(crate) fn serve(&mut self, exit: Exit<'_>) -> Result<Option<CrashReport>> {
        match exit {
            Exit::MsrWrite(write) => match (write.index(), write.value()) {
                (VP_ASSIST_PAGE, value) if value == self.gpa(ASSIST) | ASSIST_ENABLE => {
                    write.complete();
                }
                (CRASH_CTL, control) => return Ok(Some(self.report(control)?)),
                (index @ CRASH_P0..CRASH_CTL, value) => {
                    self.crash[(index - CRASH_P0) as usize] = value; // CAST: below 5
                    write.complete();
                }
                _ => write.fault(Exception::GeneralProtection)?,
            },
            Exit::Vmcall(call) => {
                let control = call.gpr(Gpr::Rcx);
                let completion = if call.gpr(Gpr::Rdx) == self.gpa(HYPERCALL) {
                    self.modify_protection(control)?
                } else {
                    Completion {
                        status: status::INVALID_PARAMETER,
                        pages: 0,
                    }
                };
                call.answer(completion.into_raw());
            }
            other => return Err(Error::Exit(other.name())),
        }
        Ok(None)
    }

    fn gpa(&self, offset: u64) -> u64 {
        self.memory.range().base() + offset
    }

    /// Takes VTL0's right to write from the pages of a list, if they are all VTL0's.
    fn modify_protection(&mut self, control: u64) -> Result<Completion> {
        let mut input = [0; PAGE as usize];
        self.memory.read(HYPERCALL, &mut input)?;
        let mut pages = Vec::new();
        let refusal = |status| Completion { status, pages: 0 };
        if let Err(status) = ProtectInput::decode(control, &input, |gpa| pages.push(gpa)) {
            return Ok(refusal(status));
        }
        let is_vtl0s = |gpa: &u64| {
            let holds = |range: &GpaRange| range.base() <= *gpa && *gpa < range.end();
            self.vtl0.iter().any(holds)
        };
        if !pages.iter().all(is_vtl0s) {
            return Ok(refusal(status::ACCESS_DENIED));
        }
        for gpa in &pages {
            let page = GpaRange::new(*gpa, PAGE)?;
            // Noted first: whatever fails, translations are invalidated.
            self.protected.push(page);
            self.vtl.set_rights(&page, Vm::VTL0, read_execute())?;
        }
        Ok(Completion {
            status: status::SUCCESS,
            pages: pages.len(),
        })
    }

    fn report(&self, control: u64) -> Result<CrashReport> {
        let [_, _, _, address, len] = self.crash;
        let message = match control & CRASH_MESSAGE {
            0 => None,
            _ => self.read_text(address, len)?,
        };
        Ok(CrashReport {
            parameters: self.crash,
            message,
        })
    }

    /// Reads a text of VTL1, which is on one of its stacks or in its image.
    fn read_text(&self, address: u64, len: u64) -> Result<Option<String>> {
        const MOST: u64 = 256;
        let len = len.min(MOST);
        let Some(offset) = layout::offset_of(address, len, self.image_len) else {
            return Ok(None);
        };
        let mut bytes = vec![0; len as usize]; // CAST: at most 256
        self.memory.read(offset, &mut bytes)?;
        Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The next guest, and whoever reads this memory at VTL2, find neither rights nor keys. What
        // fails here would fail for them, too.
        let _ = self.memory.write(0, &vec![0; VTL1_LEN as usize]); // CAST: 2 MiB
        for range in self.vtl0.iter().chain([&self.memory.range()]) {
            let _ = self.vtl.set_rights(range, Vm::VTL1, PageRights::NONE);
        }
    }
}

fn read_execute() -> PageRights {
    PageRights::NONE
        .with_read(true)
        .with_execute_supervisor(true)
        .with_execute_user(true)
}
