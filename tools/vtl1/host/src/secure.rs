// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Starts the secure kernel, and serves what its VTL asks of VTL2.

use core::ops::ControlFlow;

use vtl::{
    Exception, Exit, GpaRange, Gpr, LowerMemory, Mode, PageRights, SwitchEnable, Vm, Vp, Vtl,
    VtlPair,
};
use vtl1::boot::{Boot, IMAGE_VA, STACK_END_VA};
use vtl1::hypercall::{Completion, ProtectInput, status};
use vtl1::image::Image;
use vtl1::keys::SEED_LEN;
use vtl1::ranges::{MOST_RANGES, PAGE, Range};

use crate::layout::{self, ASSIST, BOOT, HYPERCALL, IMAGE, VTL1_LEN};
use crate::tables::{Access, Tables};
use crate::{CrashReport, Error, Result};

/// HV_X64_MSR_VP_ASSIST_PAGE, and its enable bit.
const VP_ASSIST_PAGE: u32 = 0x4000_0073;
const ASSIST_ENABLE: u64 = 1;
/// HV_X64_MSR_CRASH_P0 to P4, and HV_X64_MSR_CRASH_CTL with CrashMessage.
const CRASH_P0: u32 = 0x4000_0100;
const CRASH_CTL: u32 = CRASH_P0 + 5;
const CRASH_MESSAGE: u64 = 1 << 62;

/// What the secure kernel keeps.
pub struct Secrets {
    /// Source of its keys, not all zero. The same seed gives the same keys.
    pub seed: [u8; SEED_LEN],
    /// First value of its counter.
    pub counter: u64,
}

/// Why [`SecureVtl::run`] returned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The handler of VTL0's exits has ended it.
    ByHandler,
    /// A signal or a cancellation.
    Interrupted,
    /// VTL1 has reported its end. It must not be entered again.
    Crashed(CrashReport),
}

/// VTL0 and the secure kernel at VTL1, on one virtual processor.
pub struct SecureVtl {
    pair: VtlPair,
    vtl: Vtl,
    /// VTL1's memory.
    memory: LowerMemory,
    image_len: u64,
    vtl0: Vec<GpaRange>,
    crash: [u64; 5],
}

impl SecureVtl {
    /// Puts the image into the 2 MiB at `base`, which VTL0 loses all rights to, and gives VTL1 read
    /// and write access to `vtl0`, VTL0's memory. Both have to be accepted. The registers of
    /// `vp` are VTL0's; VTL1 begins with its first call.
    ///
    /// # Errors
    /// [`Error`].
    pub fn load(
        vp: Vp,
        file: &[u8],
        base: u64,
        vtl0: Vec<GpaRange>,
        secrets: &Secrets,
    ) -> Result<Self> {
        let image = Image::decode(file).ok_or(Error::Image)?;
        let own = GpaRange::new(base, VTL1_LEN)?;
        let vtl = vp.vtl().clone();
        let boot = boot_page(&own, &vtl0, secrets)?;
        let tables = make_tables(&own, &vtl0, &image)?;
        set_rights(&vtl, own, &vtl0)?;
        let memory = LowerMemory::map(own)?;
        memory.write(0, &vec![0; VTL1_LEN as usize])?; // CAST: 2 MiB
        memory.write(BOOT, &boot)?;
        memory.write(IMAGE, file)?;
        memory.write(layout::tables_at(&image), &tables.bytes())?;
        let assist = LowerMemory::map(GpaRange::new(base + ASSIST, PAGE)?)?;
        let pair = VtlPair::new(vp, assist)?;
        let mode = Mode::Long64 { cr3: tables.root() };
        pair.start_vtl1(mode, IMAGE_VA + image.entry, STACK_END_VA)?;
        pair.vp(Vm::VTL1).new_apic_page()?;
        pair.set_enable(SwitchEnable::new().with_calls(true).with_returns(true));
        Ok(Self {
            pair,
            vtl,
            memory,
            image_len: image.len(),
            vtl0,
            crash: [0; 5],
        })
    }

    /// Both VTLs, for their registers.
    pub fn pair(&self) -> &VtlPair {
        &self.pair
    }

    /// Returns true if the seed in memory has been erased, which VTL1 does at its first call.
    ///
    /// # Errors
    /// [`Error::Vtl`].
    pub fn is_seed_erased(&self) -> Result<bool> {
        let mut page = [0; PAGE as usize];
        self.memory.read(BOOT, &mut page)?;
        Ok(page.iter().all(|&byte| byte == 0))
    }

    /// Runs both. VTL0's exits go to `on_exit`, VTL1's are served here.
    ///
    /// # Errors
    /// [`Error`], or what `on_exit` returns.
    pub fn run<E: From<Error>>(
        &mut self,
        mut on_exit: impl FnMut(Exit<'_>) -> core::result::Result<ControlFlow<()>, E>,
    ) -> core::result::Result<Ended, E> {
        let Self {
            pair,
            vtl,
            memory,
            image_len,
            vtl0,
            crash,
        } = self;
        loop {
            let mut server = Server {
                vtl,
                memory,
                image_len: *image_len,
                vtl0,
                crash,
                has_changed_rights: false,
            };
            match pair.run().map_err(Error::from)? {
                (_, Exit::Interrupted) => return Ok(Ended::Interrupted),
                (_, Exit::NotEntered(_)) => {}
                (Vm::VTL1, exit) => {
                    if let Some(report) = server.serve(exit)? {
                        return Ok(Ended::Crashed(report));
                    }
                }
                (_, exit) => {
                    if on_exit(exit)?.is_break() {
                        return Ok(Ended::ByHandler);
                    }
                }
            }
            if server.has_changed_rights {
                pair.page().request_flush(Vm::VTL0);
            }
        }
    }
}

/// Answers VTL1's exits.
struct Server<'a> {
    vtl: &'a Vtl,
    memory: &'a LowerMemory,
    image_len: u64,
    vtl0: &'a [GpaRange],
    crash: &'a mut [u64; 5],
    has_changed_rights: bool,
}

impl Server<'_> {
    /// Returns a report if VTL1 has ended.
    fn serve(&mut self, exit: Exit<'_>) -> Result<Option<CrashReport>> {
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
        self.has_changed_rights = true;
        for gpa in &pages {
            let page = GpaRange::new(*gpa, PAGE)?;
            self.vtl.set_rights(&page, Vm::VTL0, read_execute())?;
        }
        Ok(Completion {
            status: status::SUCCESS,
            pages: pages.len(),
        })
    }

    fn report(&self, control: u64) -> Result<CrashReport> {
        let [_, _, _, address, len] = *self.crash;
        let message = match control & CRASH_MESSAGE {
            0 => None,
            _ => self.read_text(address, len)?,
        };
        Ok(CrashReport {
            parameters: *self.crash,
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

fn read_execute() -> PageRights {
    PageRights::NONE
        .with_read(true)
        .with_execute_supervisor(true)
        .with_execute_user(true)
}

fn boot_page(own: &GpaRange, vtl0: &[GpaRange], secrets: &Secrets) -> Result<Vec<u8>> {
    let range = |given: &GpaRange| Range::new(given.base(), given.len()).ok_or(Error::Memory);
    let mut list = [Range::default(); MOST_RANGES];
    if vtl0.len() > list.len() {
        return Err(Error::Memory);
    }
    for (place, given) in list.iter_mut().zip(vtl0) {
        *place = range(given)?;
    }
    let boot = Boot {
        seed: secrets.seed,
        vtl1: range(own)?,
        assist: own.base() + ASSIST,
        hypercall: own.base() + HYPERCALL,
        counter: secrets.counter,
        vtl0: list,
    };
    boot.memory().ok_or(Error::Memory)?;
    Ok(boot.encode().to_vec())
}

/// End of the addresses at which VTL0's memory can be mapped.
const LOWER_HALF_END: u64 = 1 << 47;

fn make_tables(own: &GpaRange, vtl0: &[GpaRange], image: &Image) -> Result<Tables> {
    let at = layout::tables_at(image);
    let room = VTL1_LEN.checked_sub(at).ok_or(Error::NoRoom)? / PAGE;
    let mut tables = Tables::new(own.base() + at, room as usize); // CAST: at most 512
    layout::map_own(&mut tables, own.base(), image)?;
    for range in vtl0 {
        if range.end() > LOWER_HALF_END {
            return Err(Error::Memory);
        }
        layout::map(
            &mut tables,
            range.base(),
            range.base(),
            range.len(),
            Access::Write,
        )?;
    }
    Ok(tables)
}

/// VTL1 has its memory alone. In VTL0's it can execute nothing.
fn set_rights(vtl: &Vtl, own: GpaRange, vtl0: &[GpaRange]) -> Result<()> {
    vtl.set_rights(&own, Vm::VTL0, PageRights::NONE)?;
    vtl.set_rights(&own, Vm::VTL1, PageRights::ALL)?;
    let read_write = PageRights::NONE.with_read(true).with_write(true);
    for range in vtl0 {
        vtl.set_rights(range, Vm::VTL1, read_write)?;
    }
    Ok(())
}
