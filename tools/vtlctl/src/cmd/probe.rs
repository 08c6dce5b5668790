// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! `vtlctl probe`: what is here, what is missing, and why.

use std::path::Path;

use raw_cpuid::cpuid;
use vtl::{Extension, Mshv, PolicyLine, Vtl, abi, field};

use crate::{ExitStatus, Failure, options};

mod settings;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
    /// Print which TDCALLs and hypercalls the module lets userspace make, and why
    #[arg(long)]
    policy: bool,
}

const MODULE_FOLDER: &str = "/sys/module/mshv_vtl_tdx";
const DEFENCES_FILE: &str = "/sys/kernel/debug/mshv_vtl_tdx/mitigations";

/// What was found about one thing.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Finding {
    /// Present; its value in words.
    Found(String),
    /// Missing, and a guest cannot run without it; why, and what to do.
    Missing(String),
    /// Missing, and not needed to run a guest.
    Absent(String),
}

/// Findings in the order they depend on each other.
type Findings = Vec<(&'static str, Finding)>;

pub(crate) fn main(arguments: &Arguments) -> Result<ExitStatus, Failure> {
    if arguments.policy {
        return print_policy(arguments.json);
    }
    let mut findings = vec![tdx_guest(), module(), defences()];
    findings.extend(settings::findings());
    findings.extend(devices());
    findings.extend(extensions());
    findings.extend(tdx_facts());
    findings.push(lower_memory());
    let is_complete = !findings
        .iter()
        .any(|(_, finding)| matches!(finding, Finding::Missing(_)));
    if arguments.json {
        println!("{}", to_json(&findings, is_complete));
    } else {
        print!("{}", to_text(&findings, is_complete));
    }
    Ok(if is_complete {
        ExitStatus::Success
    } else {
        ExitStatus::Failure
    })
}

fn print_policy(is_json: bool) -> Result<ExitStatus, Failure> {
    let both = |mshv: Mshv| Ok((mshv.policy()?, mshv.hypercall_policy()?));
    let (policy, hypercalls) = match Mshv::open().and_then(both) {
        Ok(both) => both,
        Err(error) => {
            eprintln!("vtlctl: {error}");
            return Ok(ExitStatus::Failure);
        }
    };
    if is_json {
        println!("{}", policy_to_json(&policy, &hypercalls));
        return Ok(ExitStatus::Success);
    }
    println!(
        "{:>4} {:>7}  {:<17} allowed, and why",
        "leaf", "version", "name"
    );
    for line in policy {
        let PolicyLine {
            leaf,
            version,
            name,
            reason,
            ..
        } = line;
        println!("{leaf:>4} {version:>7}  {name:<17} {reason}");
    }
    println!("Every other TDCALL is answered with OPERAND_INVALID, and not executed.\n");
    println!("hypercall  {:<24} allowed, and why", "name");
    for PolicyLine {
        leaf, name, reason, ..
    } in hypercalls
    {
        println!("{leaf:>#9x}  {name:<24} {reason}");
    }
    println!("Every other hypercall is refused with EPERM, whatever its file has listed.");
    Ok(ExitStatus::Success)
}

fn policy_to_json(policy: &[PolicyLine], hypercalls: &[PolicyLine]) -> serde_json::Value {
    let lines: Vec<_> = policy
        .iter()
        .map(|line| {
            serde_json::json!({
                "leaf": line.leaf,
                "version": line.version,
                "name": line.name,
                "reason": line.reason,
            })
        })
        .collect();
    let hypercalls: Vec<_> = hypercalls
        .iter()
        .map(|line| {
            serde_json::json!({ "code": line.leaf, "name": line.name, "reason": line.reason })
        })
        .collect();
    serde_json::json!({ "policy": lines, "hypercalls": hypercalls })
}

/// CPUID leaf 0x21 [ABI 8].
fn tdx_guest() -> (&'static str, Finding) {
    const LEAF_TDX: u32 = 0x21;
    let finding = if cpuid!(0).eax < LEAF_TDX {
        Finding::Missing("CPUID has no leaf 0x21: this is no TDX guest".to_owned())
    } else {
        let leaf = cpuid!(0x21);
        let name = [leaf.ebx, leaf.edx, leaf.ecx]
            .map(u32::to_le_bytes)
            .concat();
        if name == b"IntelTDX    " {
            Finding::Found("yes (CPUID 0x21)".to_owned())
        } else {
            let shown = String::from_utf8_lossy(&name).into_owned();
            Finding::Missing(format!("CPUID 0x21 says {shown:?}: this is no TDX guest"))
        }
    };
    ("TDX guest", finding)
}

fn module() -> (&'static str, Finding) {
    let finding = if Path::new(MODULE_FOLDER).is_dir() {
        let read = |name| std::fs::read_to_string(format!("{MODULE_FOLDER}/{name}"));
        Finding::Found(match (read("version"), read("srcversion")) {
            (Ok(version), Ok(source)) => loaded(&version, &source),
            _ => "loaded".to_owned(),
        })
    } else {
        Finding::Missing(
            "mshv_vtl_tdx is not loaded: modprobe it, and read the kernel log if that fails"
                .to_owned(),
        )
    };
    ("kernel module", finding)
}

/// The version number, and the sum of the sources, which also tells apart builds between two releases.
fn loaded(version: &str, source: &str) -> String {
    format!("version {} (source {})", version.trim(), source.trim())
}

/// What each switch does against speculation.
fn defences() -> (&'static str, Finding) {
    let finding = match std::fs::read_to_string(DEFENCES_FILE) {
        Ok(defences) => Finding::Found(defences.trim().to_owned()),
        Err(error) => Finding::Absent(format!("not known: {DEFENCES_FILE}: {error}")),
    };
    ("speculation", finding)
}

fn devices() -> Findings {
    let state = |path: &str| {
        let file = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open(path);
        match file {
            Ok(_) => Finding::Found("can be opened".to_owned()),
            Err(error) => Finding::Missing(error.to_string()),
        }
    };
    let needed = [abi::DEV_MSHV, abi::DEV_MSHV_VTL, abi::DEV_MSHV_VTL_LOW]
        .into_iter()
        .map(|path| (path, state(path)));
    let of_hyper_v = [abi::DEV_MSHV_HVCALL, abi::DEV_MSHV_SINT]
        .into_iter()
        .map(|path| (path, if_hyper_v(Path::new(path).exists(), state(path))));
    needed.chain(of_hyper_v).collect()
}

/// A node that only a TD below Hyper-V has, and that guests can do without.
fn if_hyper_v(exists: bool, state: Finding) -> Finding {
    match state {
        Finding::Missing(_) if !exists => {
            Finding::Absent("not there: only where the host is Hyper-V".to_owned())
        }
        other => other,
    }
}

fn extensions() -> Findings {
    let Ok(mshv) = Mshv::open() else {
        return Findings::new();
    };
    let answer = |extension| match mshv.check_extension(extension) {
        Ok(Some(answer)) => Finding::Found(answer.to_string()),
        Ok(None) => Finding::Absent("not known to this kernel".to_owned()),
        Err(error) => Finding::Missing(error.to_string()),
    };
    Extension::ALL
        .iter()
        .map(|extension| (extension.name(), answer(*extension)))
        .collect()
}

/// What the TDX module says about this TD and about itself.
fn tdx_facts() -> Findings {
    let vtl = match Mshv::open().and_then(|mshv| mshv.create_vtl()) {
        Ok(vtl) => vtl,
        Err(error) => return vec![("VTL file", Finding::Missing(error.to_string()))],
    };
    let td = |id| vtl.read_vm(id);
    vec![
        ("NUM_L2_VMS", l2_vms(td(field::NUM_L2_VMS))),
        (
            "NUM_VCPUS",
            shown(td(field::NUM_VCPUS), |count| count.to_string()),
        ),
        ("ATTRIBUTES", shown(td(field::ATTRIBUTES), hexadecimal)),
        ("XFAM", shown(td(field::XFAM), hexadecimal)),
        (
            "TSC_FREQUENCY",
            shown(td(field::TSC_FREQUENCY), |units| {
                format!("{} MHz", units * 25)
            }),
        ),
        ("TDX_FEATURES0", features(&vtl)),
    ]
}

fn hexadecimal(value: u64) -> String {
    format!("{value:#x}")
}

/// A value that is shown, but not required.
fn shown(value: vtl::Result<u64>, text: impl Fn(u64) -> String) -> Finding {
    match value {
        Ok(value) => Finding::Found(text(value)),
        Err(error) => Finding::Absent(error.to_string()),
    }
}

fn l2_vms(count: vtl::Result<u64>) -> Finding {
    match count {
        Ok(0) => Finding::Missing(
            "0: the host gave this TD no L2 VMs; it must be made with NUM_L2_VMS of 1 or more"
                .to_owned(),
        ),
        Ok(count) => Finding::Found(count.to_string()),
        Err(error) => Finding::Missing(error.to_string()),
    }
}

fn features(vtl: &Vtl) -> Finding {
    match vtl.read_sys(field::TDX_FEATURES0) {
        Ok(features) if features & field::TDX_FEATURES0_TD_PARTITIONING != 0 => {
            Finding::Found(format!("{features:#x} (TD partitioning)"))
        }
        Ok(features) => {
            Finding::Missing(format!("{features:#x}: bit 7, TD partitioning, is clear"))
        }
        Err(error) => Finding::Absent(error.to_string()),
    }
}

/// Without any, no guest can run.
fn lower_memory() -> (&'static str, Finding) {
    let finding = match options::lower_memory() {
        Ok(ranges) if ranges.is_empty() => Finding::Missing(
            "none: give vtl0_mem=START,LENGTH[,...] to the module or to the kernel".to_owned(),
        ),
        Ok(ranges) => {
            let texts: Vec<String> = ranges.iter().map(ToString::to_string).collect();
            Finding::Found(texts.join(", "))
        }
        Err(error) => Finding::Missing(format!("{error:#}")),
    };
    ("lower-VTL memory", finding)
}

fn to_text(findings: &Findings, is_complete: bool) -> String {
    let mut text = String::new();
    for (name, finding) in findings {
        let (mark, words) = match finding {
            Finding::Found(words) => ("ok", words),
            Finding::Missing(words) => ("MISSING", words),
            Finding::Absent(words) => ("-", words),
        };
        text += &format!("{mark:<8} {name:<22} {words}\n");
    }
    text += if is_complete {
        "guests can run at VTL0\n"
    } else {
        "guests cannot run at VTL0: see the lines marked MISSING, the first one first\n"
    };
    text
}

fn to_json(findings: &Findings, is_complete: bool) -> serde_json::Value {
    let items: Vec<_> = findings
        .iter()
        .map(|(name, finding)| {
            let (state, words) = match finding {
                Finding::Found(words) => ("found", words),
                Finding::Missing(words) => ("missing", words),
                Finding::Absent(words) => ("absent", words),
            };
            serde_json::json!({ "name": name, "state": state, "detail": words })
        })
        .collect();
    serde_json::json!({ "complete": is_complete, "findings": items })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_td_without_l2_vms_is_incomplete() {
        assert!(matches!(l2_vms(Ok(0)), Finding::Missing(_)));
        assert_eq!(l2_vms(Ok(2)), Finding::Found("2".to_owned()));
    }

    #[test]
    fn nodes_of_hyper_v_may_be_absent_but_not_closed() {
        let missing = Finding::Missing("why".to_owned());
        let found = Finding::Found("can be opened".to_owned());
        assert!(matches!(
            if_hyper_v(false, missing.clone()),
            Finding::Absent(_)
        ));
        assert_eq!(if_hyper_v(true, missing.clone()), missing);
        assert_eq!(if_hyper_v(true, found.clone()), found);
    }

    #[test]
    fn the_policy_is_one_object_for_programs() {
        let named = |mut line: PolicyLine| {
            line.leaf = 27;
            line.name = "VP.INVGLA".to_owned();
            line
        };
        let line = named(PolicyLine::default());
        let json = policy_to_json(std::slice::from_ref(&line), &[line.clone()]);
        assert_eq!(json["policy"][0]["leaf"], 27);
        assert_eq!(json["policy"][0]["name"], "VP.INVGLA");
        assert_eq!(
            policy_to_json(&[], &[])["policy"].as_array().map(Vec::len),
            Some(0)
        );
    }

    #[test]
    fn both_outputs_say_the_same() {
        let findings = vec![
            ("one", Finding::Found("here".to_owned())),
            ("two", Finding::Missing("not here".to_owned())),
        ];
        assert!(to_text(&findings, false).contains("MISSING"));
        let json = to_json(&findings, false);
        assert_eq!(json["complete"], false);
        assert_eq!(json["findings"][1]["state"], "missing");
    }
}
