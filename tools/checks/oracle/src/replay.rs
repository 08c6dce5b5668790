// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Executes the lines of a trace on the model and compares.

use crate::machine::{Answers, MEMORY_BYTES};
use crate::trace::{Action, CallLine, End, ExitLine, Line, Registers, Tables, TdLine, Word};
use tdx_model::cpuid::{CpuidOutcome, CpuidRequest, CpuidResult, l1_cpuid};
use tdx_model::dispatch::{Caller, Outcome, leaf_name, tdcall};
use tdx_model::gpa::{Gpa, Level};
use tdx_model::gprs::Gprs;
use tdx_model::l2_exit::{L2Call, L2Exit, L2Outcome};
use tdx_model::msr::{Direction, MsrAction, l1_msr};
use tdx_model::page_state::{PageEntry, Pages};
use tdx_model::td::{CpuFeatures, FeatureLevel, L2Tables, Td, TdConfig};
use tdx_model::vcpu::Vcpu;

const NAMES: [&str; 16] = [
    "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13",
    "r14", "r15",
];

/// What a replay found.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) checks: usize,
    /// Line number and what differs.
    pub(crate) differences: Vec<(usize, String)>,
}

/// Replays a trace.
///
/// # Errors
///
/// The first line that is no line of a trace, and why.
pub(crate) fn replay(text: &str) -> Result<Report, String> {
    let mut lines = Vec::new();
    for (number, text) in (1..).zip(text.lines()) {
        let text = text.trim();
        if !text.is_empty() {
            let line = serde_json::from_str(text).map_err(|why| format!("line {number}: {why}"))?;
            lines.push((number, line));
        }
    }
    let mut report = Report::default();
    let mut rest = &lines[..];
    while let Some(((number, first), after)) = rest.split_first() {
        let Line::Td(td) = first else {
            return Err(format!("line {number}: a trace begins with a TD"));
        };
        let is_td = |(_, line): &(usize, Line)| matches!(line, Line::Td(_));
        let len = after.iter().position(is_td).unwrap_or(after.len());
        let config = config(td).ok_or_else(|| format!("line {number}: no such TD"))?;
        run_td(td, config, &after[..len], &mut report)?;
        rest = &after[len..];
    }
    Ok(report)
}

fn config(line: &TdLine) -> Option<TdConfig> {
    Some(TdConfig {
        attributes: line.attributes.0,
        xfam: line.xfam.0,
        config_flags: line.config_flags.0,
        num_vcpus: u32::try_from(line.num_vcpus.0).ok()?,
        max_vcpus: u32::try_from(line.max_vcpus.0).ok()?,
        num_l2_vms: u8::try_from(line.num_l2_vms.0).ok().filter(|n| *n <= 3)?,
        tsc_khz: 2_500_000,
        uuid: [0; 4],
        cpu: CpuFeatures {
            cr4_fixed1: line.cr4_fixed1.0,
            xss: 0,
            has_tsx: false,
            has_waitpkg: false,
            has_tsc_deadline: false,
        },
        feature_level: FeatureLevel::new(line.feature_level.0)?,
        l2_tables: match line.l2_tables {
            Tables::Given => L2Tables::Given,
            Tables::OnDemand => L2Tables::OnDemand,
            Tables::Withheld => L2Tables::Withheld,
        },
    })
}

fn run_td(
    line: &TdLine,
    config: TdConfig,
    lines: &[(usize, Line)],
    report: &mut Report,
) -> Result<(), String> {
    let mut entries = vec![PageEntry::FREE; MEMORY_BYTES >> 12];
    let mut pages = Pages::new(&mut entries);
    pages.host_add_mapped(Gpa(0), line.accepted.0);
    // CAST: what is no index of a virtual processor of the TD is no index of the trace's either.
    let vcpu = Box::new(Vcpu::new(line.vcpu_index.0 as u32, &config));
    let mut replay = Replay {
        td: Td::new(config, pages),
        vcpu,
        machine: Answers::new(),
        l1: Gprs::ZERO,
    };
    for (number, line) in lines {
        let checked = replay
            .line(line)
            .map_err(|why| format!("line {number}: {why}"))?;
        let Some(Checked {
            source,
            differences,
        }) = checked
        else {
            continue;
        };
        let source = source.ok_or_else(|| format!("line {number}: no source"))?;
        report.checks += 1;
        let told = differences
            .into_iter()
            .map(|what| (*number, format!("{what} ({source})")));
        report.differences.extend(told);
    }
    Ok(())
}

/// A line that expects something.
struct Checked {
    source: Option<String>,
    differences: Vec<String>,
}

struct Replay<'m> {
    td: Td<'m>,
    vcpu: Box<Vcpu>,
    machine: Answers,
    /// L1's registers since the last TDG.VP.ENTER.
    l1: Gprs,
}

impl Replay<'_> {
    fn line(&mut self, line: &Line) -> Result<Option<Checked>, String> {
        let (source, differences) = match line {
            Line::Td(_) => return Err("a TD in a TD".into()),
            Line::Host { action, gpa, level } => {
                return self.host(*action, Gpa(gpa.0), level.0).map(|()| None);
            }
            Line::Machine {
                tsc,
                interrupt_for_l1,
                interrupted,
                busy_page,
            } => {
                let m = &mut self.machine;
                m.tsc = tsc.map_or(m.tsc, |tsc| tsc.0);
                m.interrupt_for_l1 = interrupt_for_l1.unwrap_or(m.interrupt_for_l1);
                m.interrupted = interrupted.unwrap_or(m.interrupted);
                m.busy_page = busy_page.map(|gpa| gpa.0);
                return Ok(None);
            }
            Line::Memory {
                gpa,
                write,
                expect,
                source,
            } => {
                let differences = self.memory(gpa.0, write, expect)?;
                if expect.is_empty() {
                    return Ok(None);
                }
                (source, differences)
            }
            Line::Call(call) => (&call.source, self.call(call)?),
            Line::Exit(exit) => (&exit.source, self.exit(exit)?),
            Line::Cpuid {
                leaf,
                subleaf,
                cpl,
                end,
                source,
            } => {
                let end_here = self.cpuid(leaf.0, subleaf.0, *cpl);
                (source, differ("end", end, &end_here))
            }
            Line::Msr {
                index,
                write,
                efer,
                end,
                value,
                source,
            } => {
                let direction = write.map_or(Direction::Read, |value| Direction::Write(value.0));
                // CAST: the index has 32 bits.
                let (end_here, here) = self.msr(index.0 as u32, direction, efer.0);
                let mut differences = differ("end", end, &end_here);
                if let Some(value) = value {
                    differences.extend(differ("value", value, &Word(here)));
                }
                (source, differences)
            }
        };
        let source = source.clone();
        Ok(Some(Checked {
            source,
            differences,
        }))
    }

    fn host(&mut self, action: Action, gpa: Gpa, level: u64) -> Result<(), String> {
        let level = Level::from_number(level).ok_or("no such level")?;
        let is_done = match action {
            Action::Add => self.td.pages.host_aug_pending(gpa, level),
            Action::Remove => {
                self.td.host_remove_page(gpa, &mut self.machine);
                true
            }
            Action::Demote => {
                self.td.pages.host_demote(gpa);
                true
            }
            Action::Share => self.td.pages.host_share(gpa),
        };
        is_done.then_some(()).ok_or_else(|| "the host can't".into())
    }

    fn memory(&mut self, gpa: u64, write: &[Word], expect: &[Word]) -> Result<Vec<String>, String> {
        let mut differences = Vec::new();
        let at = |index: usize| gpa.wrapping_add(8 * index as u64);
        for (index, word) in write.iter().enumerate() {
            let place = self.machine.word(at(index)).ok_or("outside memory")?;
            *place = word.0.to_le_bytes();
        }
        for (index, word) in expect.iter().enumerate() {
            let place = self.machine.word(at(index)).ok_or("outside memory")?;
            let here = Word(u64::from_le_bytes(*place));
            differences.extend(differ(&format!("{:#x}", at(index)), word, &here));
        }
        Ok(differences)
    }

    fn call(&mut self, line: &CallLine) -> Result<Vec<String>, String> {
        let before = registers(&line.input)?;
        // CAST: the leaf is the low half of EAX.
        let name = leaf_name(before.rax as u16);
        if let Some(told) = line.leaf.as_deref().filter(|told| name != Some(*told)) {
            return Err(format!("RAX is not {told}"));
        }
        let mut after = before;
        let caller = Caller {
            cpl: line.cpl,
            long_mode_64: line.long_mode,
        };
        let outcome = tdcall(
            &mut self.td,
            &mut self.vcpu,
            &mut after,
            caller,
            &mut self.machine,
        );
        let end = match outcome {
            Outcome::Complete => End::Complete,
            Outcome::InjectGp => End::Gp,
            Outcome::InjectVe => End::Ve,
            Outcome::InjectDf => End::Df,
            Outcome::TdExit(_) => End::TdExit,
            Outcome::Vmcall { .. } => End::Vmcall,
            Outcome::Interrupted => End::Interrupted,
            Outcome::EnterL2(_) => End::EnterL2,
            Outcome::Fatal(_) => End::Fatal,
        };
        self.l1 = after;
        let kept = line.others_kept.then_some(before);
        let mut differences = differ("end", &line.end, &end);
        differences.extend(compare(&line.out, kept, after)?);
        Ok(differences)
    }

    fn exit(&mut self, line: &ExitLine) -> Result<Vec<String>, String> {
        let vm = self.vcpu.current_vm.ok_or("no L2 runs")?;
        // CAST: fields of 32 bits.
        let half = |word: Word| word.0 as u32;
        let exit = L2Exit {
            reason: half(line.reason),
            qualification: line.qualification.0,
            gla: line.gla.0,
            gpa: line.gpa.0,
            interruption_info: half(line.interruption_info),
            idt_vectoring_info: half(line.idt_vectoring_info),
            instruction_length: half(line.instruction_length),
            cpl: line.cpl,
            ..L2Exit::default()
        };
        self.vcpu.l2_mut(vm).gprs = registers(&line.l2)?;
        let mut call = L2Call {
            td: &mut self.td,
            vcpu: &mut self.vcpu,
            vm,
            l1_gprs: &mut self.l1,
            machine: &mut self.machine,
        };
        let end = match call.exit(&exit) {
            L2Outcome::ToL1 => End::ToL1,
            L2Outcome::Resume => End::Resume,
            L2Outcome::ToHost(_) => End::TdExit,
            L2Outcome::Fatal(_) => End::Fatal,
        };
        let mut differences = differ("end", &line.end, &end);
        differences.extend(compare(&line.out, None, self.l1)?);
        Ok(differences)
    }

    fn cpuid(&self, leaf: u64, subleaf: u64, cpl: u8) -> End {
        let request = CpuidRequest {
            // CAST: CPUID takes halves.
            leaf: leaf as u32,
            subleaf: subleaf as u32,
            native: CpuidResult::default(),
            native_max_basic: 0x23,
            cpl,
        };
        match l1_cpuid(&self.td, &self.vcpu, &request) {
            CpuidOutcome::Value(_) => End::Value,
            CpuidOutcome::Ve(_) => End::Ve,
        }
    }

    fn msr(&mut self, index: u32, direction: Direction, efer: u64) -> (End, u64) {
        match l1_msr(&self.td, &mut self.vcpu, index, direction, efer) {
            MsrAction::Native => (End::Native, 0),
            MsrAction::Gp => (End::Gp, 0),
            MsrAction::Ve(_) => (End::Ve, 0),
            MsrAction::Written => (End::Value, 0),
            MsrAction::Value(v) | MsrAction::SetEfer(v) | MsrAction::SetXss(v) => (End::Value, v),
        }
    }
}

fn number(name: &str) -> Result<usize, String> {
    let found = NAMES.iter().position(|known| *known == name);
    found.ok_or_else(|| format!("{name} is no register"))
}

fn registers(named: &Registers) -> Result<Gprs, String> {
    let mut values = [0; 16];
    for (name, value) in named {
        values[number(name)?] = value.0;
    }
    Ok(Gprs::from_array(values))
}

/// Compares registers that are named, and the others with what they were, if that is asked for.
fn compare(named: &Registers, kept: Option<Gprs>, here: Gprs) -> Result<Vec<String>, String> {
    let mut wanted = kept.map_or([None; 16], |kept| kept.to_array().map(Some));
    for (name, value) in named {
        wanted[number(name)?] = Some(value.0);
    }
    let rows = NAMES.iter().zip(wanted).zip(here.to_array());
    let differ = rows.filter_map(|((name, want), here)| {
        let want = want.filter(|want| *want != here)?;
        Some(format!("{name}: {want:#x} expected, {here:#x} here"))
    });
    Ok(differ.collect())
}

fn differ<T: std::fmt::Debug + PartialEq>(what: &str, want: &T, here: &T) -> Vec<String> {
    if want == here {
        return Vec::new();
    }
    vec![format!("{what}: {want:x?} expected, {here:x?} here")]
}

#[cfg(test)]
mod tests {
    use super::*;

    const TD: &str =
        r#"{"do":"td","num_vcpus":1,"max_vcpus":1,"num_l2_vms":1,"accepted":"0x4000"}"#;

    fn replayed(lines: &str) -> Result<Report, String> {
        replay(&format!("{TD}\n{lines}"))
    }

    #[test]
    fn starter_trace_agrees_and_checks_a_lot() {
        let report = replay(include_str!("../traces/starter.jsonl")).unwrap();
        assert!(report.differences.is_empty(), "{:#?}", report.differences);
        assert!(report.checks > 60, "{}", report.checks);
    }

    #[test]
    fn each_kind_of_difference_is_found_and_named_with_its_source() {
        let call = r#"{"do":"call","in":{"rax":1,"rbx":5},"out":{"rcx":"0x34"},"source":"S1"}"#;
        let report = replayed(call).unwrap();
        let want = [(2, "rcx: 0x34 expected, 0x30 here (S1)".into())];
        assert_eq!((report.checks, &report.differences[..]), (1, &want[..]));
        let kept =
            r#"{"do":"call","in":{"rax":1},"others_kept":true,"out":{"rax":0},"source":"S"}"#;
        assert_eq!(replayed(kept).unwrap().differences.len(), 3);
        let end = r#"{"do":"call","in":{"rax":1},"end":"gp","source":"S"}"#;
        assert_eq!(replayed(end).unwrap().differences.len(), 1);
        let memory = r#"{"do":"memory","gpa":8,"write":[7],"expect":[7,9],"source":"S"}"#;
        assert_eq!(replayed(memory).unwrap().differences.len(), 1);
        let cpuid = r#"{"do":"cpuid","leaf":2,"end":"value","source":"S"}"#;
        assert_eq!(replayed(cpuid).unwrap().differences.len(), 1);
        let msr = r#"{"do":"msr","index":"0x9b","end":"value","source":"S"}"#;
        assert_eq!(replayed(msr).unwrap().differences.len(), 1);
    }

    #[test]
    fn what_is_no_trace_is_refused_with_its_line() {
        let refused = |lines: &str| replayed(lines).unwrap_err();
        assert!(refused("{").starts_with("line 2: "));
        let no_source = r#"{"do":"call","in":{"rax":1}}"#;
        assert_eq!(refused(no_source), "line 2: no source");
        let register = r#"{"do":"call","in":{"eax":1},"source":"S"}"#;
        assert_eq!(refused(register), "line 2: eax is no register");
        let leaf = r#"{"do":"call","leaf":"TDG.VM.RD","in":{"rax":1},"source":"S"}"#;
        assert_eq!(refused(leaf), "line 2: RAX is not TDG.VM.RD");
        let exit = r#"{"do":"exit","reason":10,"end":"to_l1","source":"S"}"#;
        assert_eq!(refused(exit), "line 2: no L2 runs");
        let host = r#"{"do":"host","action":"add","gpa":"0x1000"}"#;
        assert_eq!(refused(host), "line 2: the host can't");
        assert_eq!(
            replay(host).unwrap_err(),
            "line 1: a trace begins with a TD"
        );
    }
}
