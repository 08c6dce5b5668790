// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Accesses to addresses without memory: a device, or nothing, which floats.
//!
//! The TDX module reports the address, but not the instruction, which is fetched through the
//! guest's page tables and decoded here.

mod linear;
mod operation;

use vm_memory::{Bytes as _, GuestAddress, GuestMemory as _};
use vtl::exit::Access as Wanted;
use vtl::{Exception, Vm, Vp};

use self::linear::{paging, pieces, privilege, translate, whole_paging};
use self::operation::Operation;
use super::{Next, is_64_bit};
use crate::board::{Board, End};
use crate::decode::{self, Decoded};
use crate::memory::{LowerRam, Range};
use crate::platform::RESET_ENTRY;
use crate::platform::power::Power;
use crate::walk::{Kind, Miss, Paging};

/// Bytes of the longest instruction.
const LONGEST: usize = 15;

/// Why an access is not emulated.
#[derive(Debug)]
enum Problem {
    /// The guest has failed, in words.
    Failed(String),
    /// The guest gets this exception instead.
    Fault(Exception),
    /// The guest has changed the instruction or its tables meanwhile: it tries again.
    Changed,
    /// This VTL has failed.
    Vtl(vtl::Error),
}

impl Problem {
    /// What the guest gets for an access to `linear_address`.
    fn of_miss(miss: Miss, linear_address: u64) -> Self {
        match miss {
            Miss::Fault(error_code) => Self::Fault(Exception::PageFault {
                linear_address,
                error_code,
            }),
            Miss::NotCanonical | Miss::Protected => Self::Fault(Exception::GeneralProtection),
            Miss::Changed => Self::Changed,
        }
    }
}

impl From<vtl::Error> for Problem {
    fn from(error: vtl::Error) -> Self {
        Self::Vtl(error)
    }
}

/// Emulates the instruction at RIP, which accessed `gpa`.
pub(super) fn emulate(
    board: &Board<LowerRam>,
    vp: &Vp,
    gpa: u64,
    wanted: Wanted,
) -> vtl::Result<Next> {
    let paging = paging(vp)?;
    let outcome = if board.memory.find_region(GuestAddress(gpa)).is_some() {
        own_page(board, vp, gpa, wanted)
    } else if wanted == Wanted::Fetch && RESET_ENTRY.contains(Range::new(gpa, gpa + 1)) {
        return Ok(Next::End(End::Power(Power::Reset)));
    } else if wanted == Wanted::Fetch {
        Err(Problem::Failed("there is no memory to execute".to_owned()))
    } else {
        instruction(board, vp, &paging).and_then(|decoded| {
            let is_write = wanted == Wanted::Write;
            if !decoded.access.is_one_that(is_write) {
                return Err(Problem::Changed);
            }
            Operation {
                board,
                vp,
                decoded,
                gpa,
                is_write,
            }
            .carry_out()
        })
    };
    match outcome {
        Ok(()) | Err(Problem::Changed) => {}
        Err(Problem::Fault(exception)) => vp.inject(exception)?,
        Err(Problem::Vtl(error)) => return Err(error),
        Err(Problem::Failed(problem)) => {
            return Ok(Next::End(End::Failed(format!(
                "{wanted} of guest-physical address {gpa:#x} at RIP {:#x}: {problem}",
                vp.page().rip()
            ))));
        }
    }
    Ok(Next::Run)
}

/// An access to the guest's own memory that its rights do not allow. VTL1 takes the right to write, and
/// VTL0 learns that by #GP. Some processors report a read-modify-write as a read, and so is the marking of
/// an entry of the guest's tables; but a read does not lack the right to write.
fn own_page(board: &Board<LowerRam>, vp: &Vp, gpa: u64, wanted: Wanted) -> Result<(), Problem> {
    let rights = board
        .processors
        .vtl()
        .page_attributes(gpa)?
        .rights(Vm::VTL0);
    if wanted != Wanted::Fetch && rights.read() && !rights.write() {
        // The exception could not be delivered either.
        return Err(match vp.pending_event()? {
            None => Problem::Fault(Exception::GeneralProtection),
            Some(_) => Problem::Failed(
                "an event is delivered by way of a page that VTL1 protects".to_owned(),
            ),
        });
    }
    Err(Problem::Failed(
        "VTL0 has no right to its own page".to_owned(),
    ))
}

/// Fetches and decodes.
fn instruction(board: &Board<LowerRam>, vp: &Vp, paging: &Paging) -> Result<Decoded, Problem> {
    const CS_D: u64 = 1 << (16 + 14);
    let info = vp.page().exit_info();
    let bits = match (is_64_bit(vp), info.rsi & CS_D != 0) {
        (true, _) => 64,
        (false, true) => 32,
        (false, false) => 16,
    };
    let linear = match bits {
        64 => vp.page().rip(),
        _ => info.rdi.wrapping_add(vp.page().rip()) & 0xffff_ffff,
    };
    let bytes = fetch(board, paging, linear);
    let check = |at| check_fetch(board, vp, paging.cr3, at);
    if let Some(decoded) = decode::decode(&bytes, bits) {
        // The processor has executed something at `linear`. The guest may have changed it meanwhile
        // to an instruction that ends in a page from which nothing may be fetched.
        let [first, second] = pieces(linear, decoded.len);
        if second != 0 {
            check(linear.wrapping_add(first.into()))?;
        }
        return Ok(decoded);
    }
    // The rest is gone because the guest has changed its tables. If it is still gone, it finds out.
    if bytes.len() < LONGEST {
        // CAST: at most 15.
        check(linear.wrapping_add(bytes.len() as u64))?;
    }
    Err(Problem::Failed(format!(
        "the instruction {bytes:02x?} is not emulated for devices"
    )))
}

/// Checks that the guest may fetch instructions from `linear`.
fn check_fetch(board: &Board<LowerRam>, vp: &Vp, cr3: u64, linear: u64) -> Result<(), Problem> {
    let paging = whole_paging(vp, cr3)?;
    translate(board, &paging, linear, Kind::Fetch, privilege(vp)?)?;
    Ok(())
}

/// The bytes at a linear address, as many as an instruction may have and are mapped.
fn fetch(board: &Board<LowerRam>, paging: &Paging, linear: u64) -> Vec<u8> {
    const PAGE: u64 = 4096;
    let mut bytes = vec![0; LONGEST];
    let mut len = 0;
    while len < LONGEST {
        // CAST: below 15, and at most a page.
        let at = linear.wrapping_add(len as u64);
        let now = ((PAGE - at % PAGE) as usize).min(LONGEST - len);
        let gpa = paging.translate(&board.memory, at).map(GuestAddress);
        let is_read = gpa.is_some_and(|gpa| {
            let part = &mut bytes[len..len + now];
            board.memory.read_slice(part, gpa).is_ok()
        });
        if !is_read {
            break;
        }
        len += now;
    }
    bytes.truncate(len);
    bytes
}
