// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The debug port: L1 asks its host for an action. Not part of any real host.
//!
//! Bytes written to [`OPERAND`] are shifted into a 64-bit operand, highest byte first. A byte
//! written to [`COMMAND`] starts an action and clears the operand. Reading it returns the result,
//! reading [`OPERAND`] how many runs of L2s are still to be preempted. Both ports take single bytes.
//! There is one operand for all processors.

use super::synic::{self, Undelivered};
use crate::config::Stale;
use crate::hyperv;
use crate::machine::Processor;
use crate::setup::World;
use crate::smp::{self, CPUS, CpuShared};
use crate::vp::Vp;
use core::sync::atomic::{AtomicU32, Ordering};
use spin::Mutex;
use tdx_model::gpa::Gpa;
use tdx_model::page_state::PageState;

/// Both ports.
pub const PORTS: core::ops::RangeInclusive<u64> = OPERAND..=COMMAND;
const OPERAND: u64 = 0xec;
const COMMAND: u64 = 0xed;

/// Actions.
mod command {
    pub(super) const INTERRUPT: u8 = 1;
    pub(super) const EXITS: u8 = 2;
    pub(super) const EVENT: u8 = 3;
    pub(super) const MESSAGE: u8 = 4;
    pub(super) const WITHDRAW_PAGE: u8 = 5;
    pub(super) const GIVE_PAGE: u8 = 6;
    pub(super) const PROXY: u8 = 7;
    pub(super) const REFUSALS: u8 = 8;
    pub(super) const FLUSHES: u8 = 9;
    pub(super) const RIGHTS_ARE_GONE: u8 = 10;
    pub(super) const CONVERSIONS: u8 = 11;
    pub(super) const BUSY_RTMRS: u8 = 12;
    pub(super) const EXTENDS: u8 = 13;
    pub(super) const BUSY_PAGES: u8 = 14;
    pub(super) const INTERRUPTED_CALLS: u8 = 15;
    pub(super) const PROMOTE: u8 = 16;
    pub(super) const FAILED_ENTRIES: u8 = 17;
}

/// What became of an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Answer {
    Done = 0,
    UnknownCommand = 1,
    BadOperand = 2,
    Off = 3,
    Full = 4,
}

struct Port {
    operand: u64,
    answer: u8,
}

static PORT: Mutex<Port> = Mutex::new(Port {
    operand: 0,
    answer: Answer::Done as u8,
});
/// WBNOINVDs and WBINVDs that L1 has requested since the last query.
static FLUSHES: [AtomicU32; 2] = [AtomicU32::new(0), AtomicU32::new(0)];
/// Something that the host does a number of times, after skipping it a number of times.
struct Countdown {
    passes: AtomicU32,
    strikes: AtomicU32,
}

/// Preempts runs of L2s.
static TAKEN_RUNS: Countdown = Countdown::new();
/// Refuses accesses to registers of the SynIC.
static REFUSALS: Countdown = Countdown::new();
/// Refuses elements of hypercalls that convert pages.
static CONVERSIONS: Countdown = Countdown::new();
/// Holds the measurement registers while L1 wants them.
static BUSY_RTMRS: Countdown = Countdown::new();
/// Makes TDG.MR.RTMR.EXTEND a leaf that the TDX module does not have.
static EXTENDS: Countdown = Countdown::new();

/// Holds entries of the secure EPT when L1 wants them.
static BUSY_PAGES: Countdown = Countdown::new();
/// Has interrupts pending during long calls of the TDX module.
static INTERRUPTED_CALLS: Countdown = Countdown::new();
/// Lets entries of L2s fail that are not L1's.
static FAILED_ENTRIES: Countdown = Countdown::new();

// ORDERING: counters that order nothing else; a test sets one before it does what is counted.
impl Countdown {
    const fn new() -> Self {
        Self {
            passes: AtomicU32::new(0),
            strikes: AtomicU32::new(0),
        }
    }

    /// Bits 15:0: how often it strikes; 31:16: how often it lets pass before.
    fn arm(&self, operand: u64) -> Answer {
        // CAST: fields of the operand.
        let passes = u32::from((operand >> 16) as u16);
        self.passes.store(passes, Ordering::Relaxed);
        let strikes = u32::from(operand as u16);
        self.strikes.store(strikes, Ordering::Relaxed);
        Answer::Done
    }

    fn left(&self) -> u32 {
        self.strikes.load(Ordering::Relaxed)
    }

    /// Returns true if it strikes this time. Counts it.
    fn strikes(&self) -> bool {
        let one_less = |counter: &AtomicU32| {
            let less = |count: u32| count.checked_sub(1);
            counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less)
        };
        self.left() != 0 && one_less(&self.passes).is_err() && one_less(&self.strikes).is_ok()
    }
}

/// One access, as in `io.rs`.
pub fn io(vp: &mut Vp, size: u64, direction: u64, port: u64, data: u64) -> Option<u64> {
    match (size, direction, port) {
        (1, 0, COMMAND) => Some(u64::from(PORT.lock().answer)),
        (1, 0, _) => Some(u64::from(TAKEN_RUNS.left().min(0xff))),
        (1, 1, OPERAND) => {
            let mut state = PORT.lock();
            state.operand = (state.operand << 8) | (data & 0xff);
            Some(0)
        }
        (1, 1, COMMAND) => {
            let operand = core::mem::take(&mut PORT.lock().operand);
            let answer = match data as u8 {
                // CAST: one byte was written
                command::FLUSHES => count_flushes(),
                command => act(vp, command, operand) as u8,
            };
            PORT.lock().answer = answer;
            Some(0)
        }
        _ => None,
    }
}

fn act(vp: &mut Vp, command: u8, operand: u64) -> Answer {
    // CAST: fields of the operand.
    let (low, second) = (operand as u8, usize::from((operand >> 8) as u8));
    match command {
        command::INTERRUPT if low < 32 || second >= smp::count() => Answer::BadOperand,
        command::INTERRUPT => {
            smp::send_interrupt(second, low);
            Answer::Done
        }
        command::EXITS => TAKEN_RUNS.arm(operand),
        command::REFUSALS => REFUSALS.arm(operand),
        command::CONVERSIONS => CONVERSIONS.arm(operand),
        command::BUSY_RTMRS => BUSY_RTMRS.arm(operand),
        command::EXTENDS => EXTENDS.arm(operand),
        command::BUSY_PAGES => BUSY_PAGES.arm(operand),
        command::INTERRUPTED_CALLS => INTERRUPTED_CALLS.arm(operand),
        command::FAILED_ENTRIES => FAILED_ENTRIES.arm(operand),
        command::EVENT => {
            let flag = u32::from((operand >> 16) as u16); // CAST: a field
            delivery(synic::signal_event(vp, second, low, flag))
        }
        command::MESSAGE => {
            let kind = u32::from((operand >> 16) as u16); // CAST: a field
            let payload = (operand >> 32).to_le_bytes();
            let message = hyperv::message(kind | (1 << 31), &payload);
            delivery(synic::post_message(vp, second, low, &message))
        }
        command::PROXY => {
            let count = (operand >> 16) as u8; // CAST: a field
            delivery(synic::proxy_interrupts(vp, second, low, count))
        }
        command::WITHDRAW_PAGE => change_page(vp, operand, PageState::Mapped),
        command::RIGHTS_ARE_GONE if operand != 0 => Answer::BadOperand,
        command::RIGHTS_ARE_GONE => declare_rights_gone(vp),
        command::GIVE_PAGE => change_page(vp, operand, PageState::Free),
        command::PROMOTE => {
            let mut world = vp.platform.world();
            if world.td.pages.host_promote(Gpa(operand)) {
                Answer::Done
            } else {
                Answer::BadOperand
            }
        }
        _ => Answer::UnknownCommand,
    }
}

/// Bits 3:0: WBINVDs, 7:4: WBNOINVDs since the last query; 15 means 15 or more.
fn count_flushes() -> u8 {
    // ORDERING: counters that order nothing else. CAST: at most 15.
    let take = |counter: &AtomicU32| counter.swap(0, Ordering::Relaxed).min(15) as u8;
    let [write_back, invalidate] = &FLUSHES;
    (take(write_back) << 4) | take(invalidate)
}

/// L1 requests that caches are written back, and the lines dropped unless `keeps_lines`.
pub fn note_flush(keeps_lines: bool) {
    let [write_back, invalidate] = &FLUSHES;
    let counter = if keeps_lines { write_back } else { invalidate };
    // ORDERING: as above.
    counter.fetch_add(1, Ordering::Relaxed);
}

fn delivery(result: Result<(), Undelivered>) -> Answer {
    match result {
        Ok(()) => Answer::Done,
        Err(Undelivered::NoProcessor) => Answer::BadOperand,
        Err(Undelivered::Off) => Answer::Off,
        Err(Undelivered::Full) => Answer::Full,
    }
}

/// L1 has revoked rights and made every processor flush, it says. All leave their L2s once, so that
/// those that kept a right look for it.
fn declare_rights_gone(vp: &Vp) -> Answer {
    let mut world = vp.platform.world();
    world.td.stale.declare_gone();
    if vp.platform.config.stale == Stale::Report {
        CPUS.iter().for_each(CpuShared::flush);
    }
    drop(world);
    smp::shootdown(vp.index);
    Answer::Done
}

/// Removes a private page, or adds a new, pending one if there is none.
fn change_page(vp: &Vp, gpa: u64, from: PageState) -> Answer {
    let page = Gpa(gpa);
    let mut world = vp.platform.world();
    let World { td, spaces } = &mut *world;
    if page.is_shared() || gpa % 4096 != 0 || !vp.platform.ram.contains(gpa) {
        return Answer::BadOperand;
    }
    let state = td.pages.state(page);
    if from == PageState::Free {
        let is_given = td.host_give_page(page);
        return if is_given {
            Answer::Done
        } else {
            Answer::BadOperand
        };
    }
    if !matches!(state, PageState::Mapped | PageState::Pending) {
        return Answer::BadOperand;
    }
    let mut processor = Processor::new(vp, spaces);
    td.host_remove_page(page, &mut processor);
    processor.finish();
    Answer::Done
}

/// Returns true if L1 asked the host to preempt this run of an L2. Counts the run.
pub fn takes_processor() -> bool {
    TAKEN_RUNS.strikes()
}

/// Counts an access to a register of the SynIC. Returns true if L1 asked the host to refuse it.
pub fn refuses_register() -> bool {
    REFUSALS.strikes()
}

/// Returns true if L1 asked the host not to convert this page of a hypercall. Counts the page.
pub fn refuses_conversion() -> bool {
    CONVERSIONS.strikes()
}

/// Returns true if L1 asked for the measurement registers to be held by somebody else. Counts it.
pub fn holds_rtmrs() -> bool {
    BUSY_RTMRS.strikes()
}

/// Returns true if L1 asked for this TDG.MR.RTMR.EXTEND to be refused. Counts it.
pub fn refuses_extend() -> bool {
    EXTENDS.strikes()
}

/// Returns true if L1 asked the host to hold the secure-EPT entry that a call needs. Counts the call.
pub fn holds_page() -> bool {
    BUSY_PAGES.strikes()
}

/// Returns true if L1 asked for an interrupt at this point of a long call. Counts the point.
pub fn interrupts_call() -> bool {
    INTERRUPTED_CALLS.strikes()
}

/// Returns true if L1 asked for this entry of an L2 by the host or the TDX module to fail. Counts the
/// entry.
pub fn fails_entry() -> bool {
    FAILED_ENTRIES.strikes()
}
