// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Test of the secure kernel in a trust domain: a bare-metal VTL0 calls it, by VTL calls that the
//! kernel carries out, with valid and with hostile requests. Prints KTAP.
//!
//! ```text
//! vtl1_test IMAGE
//! ```

use core::ops::ControlFlow;

use vtl::{Exit, GpaRange, Gpr, LowerMemory, Mode, Mshv, PageRights, Vm, Vtl, identity_tables};
use vtl1::keys::{Keys, SEAL_OVERHEAD, SEED_LEN, TAG_LEN};
use vtl1::ranges::{PAGE, Range};
use vtl1::request::{Command, MAX_INPUT, Request, Status};
use vtl1_host::{CrashReport, Ended, Secrets, SecureVtl, Turn, VTL1_LEN};

type Failure = Box<dyn std::error::Error>;
type Outcome<T = ()> = Result<T, Failure>;

/// VTL0. After each halt it does what RIP says: a VTL call, a write to `[rbx]`, or a read of it.
/// ```text
/// 0: xor eax, eax; mov ecx, 0x11; vmcall; hlt
/// 11: mov [rbx], al; hlt
/// 14: mov al, [rbx]; hlt
/// ```
const VTL0: &[u8] = b"\x31\xc0\xb9\x11\x00\x00\x00\x0f\x01\xc1\xf4\x88\x03\xf4\x8a\x03\xf4";
const CALL: u64 = 0;
const WRITE: u64 = 11;
const READ: u64 = 14;

/// The access was a write: bit of the exit qualification.
const EPT_WRITE: u64 = 1 << 1;

const SEED: [u8; SEED_LEN] = [0x2a; SEED_LEN];
const COUNTER: u64 = 100;
/// Length of VTL0's memory, in one piece: page tables, code, then what the cases use.
const VTL0_LEN: u64 = 2 << 20;
const CODE: u64 = 3 * PAGE;
const REQUEST: u64 = 0x1_0000;
const INPUT: u64 = 0x2_0000;
const OUTPUT: u64 = 0x4_0000;

/// A condition that has to hold.
macro_rules! ensure {
    ($condition:expr, $($text:tt)+) => {
        if !$condition {
            return Err(format!($($text)+).into());
        }
    };
}

/// What ends a step of VTL0.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Halted,
    Violation { gpa: u64, is_write: bool },
    Crashed(CrashReport),
}

struct Bed {
    secure: SecureVtl,
    vtl: Vtl,
    memory: LowerMemory,
    base: u64,
    calls: u64,
}

/// Returns the base of the last two large pages that the module claimed for lower VTLs.
fn find_memory() -> Outcome<u64> {
    let list = std::fs::read_to_string("/sys/module/mshv_vtl_tdx/parameters/vtl0_mem")?;
    let number = |text: &str| u64::from_str_radix(text.trim().trim_start_matches("0x"), 16);
    let numbers = list
        .split(',')
        .map(number)
        .collect::<Result<Vec<u64>, _>>()?;
    let all = VTL0_LEN + VTL1_LEN;
    match numbers[..] {
        [.., base, len] if len >= 2 * all => Ok((base + len) / VTL0_LEN * VTL0_LEN - all),
        _ => Err(format!("no memory for two VTLs in {list}").into()),
    }
}

impl Bed {
    fn new(image: &[u8]) -> Outcome<Self> {
        let base = find_memory()?;
        let vtl = Mshv::open()?.create_vtl()?;
        vtl.accept(&GpaRange::new(base, VTL0_LEN + VTL1_LEN)?)?;
        let vtl0 = GpaRange::new(base, VTL0_LEN)?;
        vtl.set_rights(&vtl0, Vm::VTL0, PageRights::ALL)?;
        let memory = LowerMemory::map(vtl0)?;
        memory.write(0, &identity_tables(base))?;
        memory.write(CODE, VTL0)?;
        let vp = vtl.bind(0, Vm::VTL0)?;
        vp.reset(Mode::Long64 { cr3: base }, base + CODE)?;
        let secrets = Secrets {
            seed: SEED,
            counter: COUNTER,
        };
        let secure = SecureVtl::load(vp, image, base + VTL0_LEN, vec![vtl0], &secrets)?;
        Ok(Self {
            secure,
            vtl,
            memory,
            base,
            calls: 0,
        })
    }

    /// Lets VTL0 continue at `at` until it halts.
    fn step(&mut self, at: u64) -> Outcome<Step> {
        self.secure
            .pair()
            .vp(Vm::VTL0)
            .page()
            .set_rip(self.base + CODE + at);
        let mut step = Step::Halted;
        let ended = self.secure.run::<Failure>(|exit| match exit {
            Exit::Halt(_) => Ok(ControlFlow::Break(())),
            Exit::EptViolation(violation) => {
                step = Step::Violation {
                    gpa: violation.gpa,
                    is_write: violation.qualification & EPT_WRITE != 0,
                };
                Ok(ControlFlow::Break(()))
            }
            other => Err(format!("unexpected exit of VTL0: {}", other.name()).into()),
        })?;
        match ended {
            Ended::ByHandler => Ok(step),
            Ended::Crashed(report) => Ok(Step::Crashed(report)),
            Ended::Interrupted => Err("interrupted".into()),
        }
    }

    /// A VTL call with RDI; returns RAX and RCX, and checks that all other registers are unchanged.
    fn call(&mut self, rdi: u64) -> Outcome<(u64, u64)> {
        let page = self.secure.pair().vp(Vm::VTL0).page().clone();
        let pattern = |number: usize| 0x0101_0101_0101_0101 * number as u64;
        for (gpr, _) in Gpr::ALL {
            page.set_gpr(gpr, pattern(gpr as usize + 1));
        }
        page.set_gpr(Gpr::Rdi, rdi);
        let step = self.step(CALL)?;
        ensure!(step == Step::Halted, "{step:x?}");
        self.calls += 1;
        for (gpr, name) in Gpr::ALL {
            let expected = match gpr {
                Gpr::Rax | Gpr::Rcx => continue,
                Gpr::Rdi => rdi,
                _ => pattern(gpr as usize + 1),
            };
            let found = page.gpr(gpr);
            ensure!(found == expected, "{name} is {found:#x}, not {expected:#x}");
        }
        Ok((page.gpr(Gpr::Rax), page.gpr(Gpr::Rcx)))
    }

    fn request(
        &mut self,
        command: Command,
        input: (u64, u64),
        output: (u64, u64),
    ) -> Outcome<(u64, u64)> {
        let range = |(base, len)| Range::new(base, len).ok_or("a range that wraps");
        let request = Request {
            command,
            input: range(input)?,
            output: range(output)?,
        };
        self.memory.write(REQUEST, &request.encode())?;
        self.call(self.base + REQUEST)
    }

    /// A valid request; returns its output.
    fn ask(&mut self, command: Command, input: &[u8]) -> Outcome<Vec<u8>> {
        self.memory.write(INPUT, input)?;
        let room = command.output_len(input.len());
        let base = self.base;
        let reply = self.request(
            command,
            (base + INPUT, input.len() as u64),
            (base + OUTPUT, room as u64),
        )?;
        ensure!(
            reply == (Status::Done as u64, room as u64),
            "{command:?}: {reply:?}"
        );
        let mut output = vec![0; room];
        self.memory.read(OUTPUT, &mut output)?;
        Ok(output)
    }

    /// A request that has to fail and to change nothing.
    fn refuse(
        &mut self,
        command: Command,
        input: (u64, u64),
        output: (u64, u64),
        status: Status,
    ) -> Outcome {
        let (rax, _) = self.request(command, input, output)?;
        ensure!(
            rax == status as u64,
            "{command:?} {input:x?} {output:x?}: {rax}, not {status:?}"
        );
        Ok(())
    }

    fn contents(&self) -> Outcome<Vec<u8>> {
        let mut all = vec![0; VTL0_LEN as usize];
        self.memory.read(0, &mut all)?;
        all[REQUEST as usize..][..vtl1::request::REQUEST_LEN].fill(0);
        Ok(all)
    }

    fn count(&mut self) -> Outcome<u64> {
        let bytes = self.ask(Command::Count, &[])?;
        Ok(u64::from_le_bytes(bytes.as_slice().try_into()?))
    }
}

fn services(bed: &mut Bed) -> Outcome {
    let keys = Keys::derive(&SEED).ok_or("no keys")?;
    let identity = bed.ask(Command::Identify, &[])?;
    ensure!(identity[8..] == keys.id(), "{identity:x?}");
    let tag = bed.ask(Command::Sign, b"a file of VTL0")?;
    ensure!(tag == keys.sign(b"a file of VTL0"), "{tag:x?}");
    ensure!(bed.count()? == COUNTER + 1, "the first count");
    ensure!(bed.count()? == COUNTER + 2, "the second count");
    let secret = vec![0x77; MAX_INPUT];
    let sealed = bed.ask(Command::Seal, &secret)?;
    ensure!(
        !sealed.windows(32).any(|part| part == [0x77; 32]),
        "not encrypted"
    );
    ensure!(bed.ask(Command::Unseal, &sealed)? == secret, "not unsealed");
    Ok(())
}

fn keys_stay(bed: &mut Bed) -> Outcome {
    ensure!(
        bed.secure.is_seed_erased()?,
        "the seed is still in the boot page"
    );
    let page = bed.secure.pair().vp(Vm::VTL0).page().clone();
    for (at, is_write) in [(READ, false), (WRITE, true)] {
        let gpa = bed.base + VTL0_LEN + 0x1_0000;
        page.set_gpr(Gpr::Rbx, gpa);
        let step = bed.step(at)?;
        ensure!(step == Step::Violation { gpa, is_write }, "{step:x?}");
    }
    Ok(())
}

fn hostile(bed: &mut Bed) -> Outcome {
    let (base, vtl1) = (bed.base, bed.base + VTL0_LEN);
    let before = bed.contents()?;
    let good = (base + OUTPUT, TAG_LEN as u64);
    for address in [
        0,
        base + REQUEST + 1,
        base - 64,
        vtl1,
        vtl1 - 32,
        u64::MAX - 63,
        1 << 63,
    ] {
        let (rax, _) = bed.call(address)?;
        ensure!(rax == Status::BadAddress as u64, "{address:#x}: {rax}");
    }
    for bad in [
        (vtl1, 64),
        (vtl1 - 32, 64),
        (base - 32, 64),
        (vtl1 + VTL1_LEN - 32, 64),
        (0xffff_ffff_8000_0000, 64),
        (0xffff_ffff_a000_0000, 64),
        (1 << 47, 64),
    ] {
        bed.refuse(Command::Sign, bad, good, Status::BadRange)?;
        bed.refuse(Command::Sign, (base + INPUT, 64), bad, Status::BadRange)?;
    }
    let input = (base + INPUT, 64);
    bed.refuse(
        Command::Sign,
        input,
        (base + INPUT + 63, 64),
        Status::Overlap,
    )?;
    bed.refuse(Command::Sign, input, (base + REQUEST, 64), Status::Overlap)?;
    bed.refuse(Command::Sign, input, (base + OUTPUT, 31), Status::NoRoom)?;
    bed.refuse(
        Command::Sign,
        (base + INPUT, MAX_INPUT as u64 + 1),
        good,
        Status::Malformed,
    )?;
    bed.refuse(
        Command::Sign,
        (base + INPUT, 1 << 40),
        good,
        Status::Malformed,
    )?;
    bed.refuse(
        Command::Protect,
        (base + INPUT, 8),
        (0, 0),
        Status::Malformed,
    )?;
    bed.memory.write(REQUEST, &[0xff; 64])?;
    let (rax, _) = bed.call(base + REQUEST)?;
    ensure!(rax == Status::Malformed as u64, "no request: {rax}");
    ensure!(bed.contents()? == before, "VTL0's memory has changed");
    ensure!(bed.count()? == COUNTER + 3, "the counter has changed");
    Ok(())
}

fn changed_seal(bed: &mut Bed) -> Outcome {
    let mut sealed = bed.ask(Command::Seal, b"secret")?;
    sealed[SEAL_OVERHEAD / 2] ^= 4;
    bed.memory.write(INPUT, &sealed)?;
    let base = bed.base;
    let input = (base + INPUT, sealed.len() as u64);
    bed.refuse(
        Command::Unseal,
        input,
        (base + OUTPUT, 64),
        Status::NotSealed,
    )
}

fn protect(bed: &mut Bed) -> Outcome {
    const PROTECTED: u64 = 0x8_0000;
    const PAGES: u64 = 3;
    let base = bed.base;
    let page = bed.secure.pair().vp(Vm::VTL0).page().clone();
    let last = base + PROTECTED + PAGES * PAGE - 1;
    page.set_gpr(Gpr::Rbx, last);
    ensure!(bed.step(WRITE)? == Step::Halted, "not writable before");
    let list = |at: u64, pages: u64| [at, pages].map(u64::to_le_bytes).concat();
    // One invalid entry, and nothing is protected.
    let vtl1 = base + VTL0_LEN;
    let bad = [list(base + PROTECTED, PAGES), list(vtl1, 1)].concat();
    bed.memory.write(INPUT, &bad)?;
    bed.refuse(
        Command::Protect,
        (base + INPUT, 32),
        (0, 0),
        Status::BadRange,
    )?;
    page.set_gpr(Gpr::Rbx, last);
    ensure!(
        bed.step(WRITE)? == Step::Halted,
        "protected by an invalid list"
    );
    bed.ask(Command::Protect, &list(base + PROTECTED, PAGES))?;
    for gpa in [base + PROTECTED, last] {
        page.set_gpr(Gpr::Rbx, gpa);
        let step = bed.step(WRITE)?;
        ensure!(
            step == Step::Violation {
                gpa,
                is_write: true
            },
            "{step:x?}"
        );
        ensure!(bed.step(READ)? == Step::Halted, "not readable");
    }
    for gpa in [base + PROTECTED - 1, last + 1] {
        page.set_gpr(Gpr::Rbx, gpa);
        ensure!(
            bed.step(WRITE)? == Step::Halted,
            "{gpa:#x} is protected as well"
        );
    }
    // VTL1 does not write there in VTL0's place.
    bed.refuse(
        Command::Sign,
        (base + INPUT, 8),
        (last - 8, 32),
        Status::BadRange,
    )
}

fn by_the_kernel(bed: &mut Bed) -> Outcome {
    let stats = bed.vtl.stats(0)?.ok_or("no counters")?.vtl;
    let (before, calls) = (stats.calls, bed.calls);
    bed.count()?;
    let after = bed.vtl.stats(0)?.ok_or("no counters")?.vtl.calls;
    ensure!(after - before == bed.calls - calls, "{before} to {after}");
    Ok(())
}

/// What VTL0 gets before its next instruction can be given to it then.
fn held_return(bed: &mut Bed) -> Outcome {
    const AFTER_CALL: u64 = CALL + 10;
    let page = bed.secure.pair().vp(Vm::VTL0).page().clone();
    page.set_rip(bed.base + CODE + CALL);
    // No request is there.
    page.set_gpr(Gpr::Rdi, bed.base + 1);
    bed.secure.hold_returns(true);
    let turn = bed.secure.turn()?;
    ensure!(matches!(turn, Turn::Served), "{turn:?}");
    ensure!(!bed.secure.is_in_vtl1(), "VTL1 has not returned");
    let (rip, rax) = (page.rip() - bed.base - CODE, page.gpr(Gpr::Rax));
    ensure!(
        (rip, rax) == (AFTER_CALL, Status::BadAddress as u64),
        "RIP {rip:#x}, RAX {rax}"
    );
    bed.secure.hold_returns(false);
    let turn = bed.secure.turn()?;
    ensure!(matches!(turn, Turn::Exit(Exit::Halt(_))), "{turn:?}");
    Ok(())
}

/// The last case: VTL1 does not survive it.
fn crash(bed: &mut Bed) -> Outcome {
    let mut state = bed.secure.pair().page().parked(Vm::VTL1);
    state.rip = bed.base + CODE;
    bed.secure.pair().page().set_parked(Vm::VTL1, &state);
    let Step::Crashed(report) = bed.step(CALL)? else {
        return Err("VTL1 executes VTL0's memory".into());
    };
    println!("# VTL1 reports: {report}");
    let [vector, error, rip, cr2, _] = report.parameters;
    ensure!(vector == 14 && error == 0x11, "{report}");
    ensure!(rip == bed.base + CODE && cr2 == rip, "{report}");
    Ok(())
}

type Case = (&'static str, fn(&mut Bed) -> Outcome);

const CASES: [Case; 8] = [
    ("each_service_does_what_it_says", services),
    ("vtl0_gets_no_key_by_itself", keys_stay),
    ("a_hostile_request_changes_nothing", hostile),
    ("a_changed_seal_is_noticed", changed_seal),
    ("protected_pages_are_not_written_by_either_vtl", protect),
    ("the_kernel_carries_out_the_calls", by_the_kernel),
    ("a_return_can_be_held_before_vtl0_continues", held_return),
    ("an_exception_in_vtl1_ends_in_a_report", crash),
];

fn main() -> std::process::ExitCode {
    println!("TAP version 13\n1..{}", CASES.len());
    let path = std::env::args().nth(1).unwrap_or_default();
    let bed = std::fs::read(&path)
        .map_err(Failure::from)
        .and_then(|image| Bed::new(&image));
    let mut bed = match bed {
        Ok(bed) => bed,
        Err(error) => {
            println!("Bail out! {path}: {error}");
            return std::process::ExitCode::FAILURE;
        }
    };
    let mut failed = 0;
    for ((name, case), number) in CASES.iter().zip(1..) {
        match case(&mut bed) {
            Ok(()) => println!("ok {number} {name}"),
            Err(error) => {
                println!("# {error}\nnot ok {number} {name}");
                failed += 1;
            }
        }
    }
    std::process::ExitCode::from(u8::from(failed != 0))
}
