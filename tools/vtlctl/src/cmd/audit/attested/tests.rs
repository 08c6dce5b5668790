// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Tests of `attested.rs`. What proves what is tested in `vtl_audit`.

use std::io::Write as _;

use super::super::{Verify, file as older};
use super::*;
use clap::Parser as _;
use vtl_audit::event::CONTROL;
use vtl_audit::file::{Frame, write};
use vtl_audit::hash::{self, report_data};
use vtl_audit::testing::{Module, boot_log, quote, record};

#[derive(clap::Parser)]
struct Line {
    #[command(flatten)]
    arguments: Arguments,
}

fn arguments(line: &[&str]) -> Arguments {
    Line::parse_from(std::iter::once(&"verify").chain(line)).arguments
}

fn module() -> Module {
    let mut module = Module::load(&[0, CONTROL]);
    module.run(100);
    module.checkpoint(Some([0xab; 32]));
    module
}

/// The log with a frame more.
fn with(module: &Module, kind: Frame, body: &[u8]) -> Vec<u8> {
    let frame = write::frame(kind, body).unwrap_or_default();
    [module.file(), frame].concat()
}

fn outcome(file: &[u8], line: &[&str]) -> Result<ExitStatus, Failure> {
    main(file, &arguments(line), false)
}

#[test]
fn each_verdict_has_its_status() {
    let module = module();
    let report = module.report(&[0; 64]);
    let whole = with(&module, Frame::Report, &report);
    assert_eq!(outcome(&whole, &[]).ok(), Some(ExitStatus::Success));
    let cut = &whole[..whole.len() - 1];
    assert!(outcome(cut, &[]).is_err(), "the report was cut off");
    let odd = [whole.as_slice(), &[1]].concat();
    assert_eq!(outcome(&odd, &[]).ok(), Some(ExitStatus::WithGaps));
    let frames = |wanted: fn(&Vec<u8>) -> bool| {
        let mut frames = module.frames();
        frames.retain(wanted);
        let report = write::frame(Frame::Report, &report).unwrap_or_default();
        [module.head(), frames.concat(), report].concat()
    };
    let suffix = frames(|frame| !(frame[0] == 2 && frame[24] == 0));
    assert_eq!(outcome(&suffix, &[]).ok(), Some(ExitStatus::SuffixOnly));
    let none = frames(|frame| frame[0] != 2);
    assert_eq!(outcome(&none, &[]).ok(), Some(ExitStatus::NotAttested));
}

#[test]
fn a_nonce_and_a_known_event_are_asked_for() {
    let module = module();
    let digest = vtl_audit::hash::digest(&module.events()[1]);
    let report = module.report(&report_data(&[0xab; 32], &digest));
    let file = with(&module, Frame::Report, &report);
    let right = "ab".repeat(32);
    assert_eq!(
        outcome(&file, &["--nonce", &right]).ok(),
        Some(ExitStatus::Success)
    );
    let wrong = "ac".repeat(32);
    assert_eq!(
        outcome(&file, &["--nonce", &wrong]).ok(),
        Some(ExitStatus::NotAttested)
    );
    let session = "01".repeat(16);
    let known = |number: u8| format!("{session}:{number}");
    assert_eq!(
        outcome(&file, &["--at-least", &known(1)]).ok(),
        Some(ExitStatus::Success)
    );
    assert_eq!(
        outcome(&file, &["--at-least", &known(2)]).ok(),
        Some(ExitStatus::NotAttested)
    );
    let other = "00".repeat(48);
    assert_eq!(
        outcome(&file, &["--open-register", &other]).ok(),
        Some(ExitStatus::Success)
    );
    let other = "01".repeat(48);
    assert_eq!(
        outcome(&file, &["--open-register", &other]).ok(),
        Some(ExitStatus::NotAttested)
    );
}

/// A file of an older version has no events, and who made it may have written anything: to who asks for
/// what is proved it is nothing, whichever way he asks.
#[test]
fn a_file_without_events_is_no_answer_to_who_wants_a_proof() -> anyhow::Result<()> {
    let path = std::env::temp_dir().join(format!("vtlctl-older-{}", std::process::id()));
    let records = (1..4).flat_map(|number| record(number, 0));
    let file: Vec<u8> = older::head(&serde_json::json!({}))?
        .into_iter()
        .chain(records)
        .collect();
    std::fs::write(&path, file)?;
    let nonce = "00".repeat(32);
    let event = format!("{}:1", "01".repeat(16));
    let register = "00".repeat(48);
    let asked = [
        &["--nonce", &nonce][..],
        &["--at-least", &event],
        &["--open-register", &register],
        &["--rtmr", "3"],
        &["--boot-log", "/dev/null"],
    ];
    let status = |line: &[&str]| {
        let request = Verify {
            attested: arguments(line),
            json: false,
            file: path.clone(),
        };
        super::super::verify(&request).unwrap_or_else(|failure| failure.status)
    };
    assert_eq!(
        status(&[]),
        ExitStatus::Success,
        "the file is as it is written"
    );
    for line in asked {
        assert_eq!(status(line), ExitStatus::File, "{line:?}");
    }
    std::fs::remove_file(&path)?;
    Ok(())
}

#[test]
fn the_register_is_the_callers_choice() {
    let mut module = Module::load_with(&[0, CONTROL], 2, [0; 48], 1);
    module.run(3);
    module.checkpoint(None);
    let file = with(&module, Frame::Report, &module.report(&[0; 64]));
    assert_eq!(outcome(&file, &[]).ok(), Some(ExitStatus::NotAttested));
    assert_eq!(
        outcome(&file, &["--rtmr", "2"]).ok(),
        Some(ExitStatus::Success)
    );
    assert!(Line::try_parse_from(["verify", "--rtmr", "1"]).is_err());
}

#[test]
fn without_evidence_there_is_no_verdict() {
    let failure = outcome(&module().file(), &[]).err();
    let failure = failure.map(|failure| (failure.status, failure.error.to_string()));
    match failure {
        Some((ExitStatus::File, text)) => assert!(text.contains("--quote or --report"), "{text}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn evidence_comes_from_files_too() -> anyhow::Result<()> {
    let module = module();
    let folder = std::env::temp_dir().join(format!("vtlctl-attested-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let store = |name: &str, bytes: &[u8]| -> anyhow::Result<String> {
        let path = folder.join(name);
        std::fs::File::create(&path)?.write_all(bytes)?;
        Ok(path.display().to_string())
    };
    let quote = store("quote", &module.quote(4, &[0; 64]))?;
    let report = store("report", &module.report(&[0; 64]))?;
    let file = module.file();
    assert_eq!(
        outcome(&file, &["--quote", &quote]).ok(),
        Some(ExitStatus::Success)
    );
    assert_eq!(
        outcome(&file, &["--report", &report]).ok(),
        Some(ExitStatus::Success)
    );
    // What has no end is no evidence, and no log.
    for endless in ["--report", "--quote", "--boot-log"] {
        let line = ["--quote", &quote, endless, "/dev/zero"];
        let line = match endless {
            "--boot-log" => &line[..],
            _ => &line[2..],
        };
        let failure = outcome(&file, line).err();
        let failure = failure.map(|failure| failure.status);
        assert_eq!(failure, Some(ExitStatus::File), "{endless}");
    }
    let zeros = super::super::read(Path::new("/dev/zero"));
    assert_eq!(zeros.map(|bytes| bytes.len()).ok(), Some(12));
    let swapped = outcome(&file, &["--report", &quote]).err();
    assert_eq!(
        swapped.map(|failure| failure.status),
        Some(ExitStatus::File)
    );
    std::fs::remove_dir_all(&folder)?;
    Ok(())
}

/// What is printed about a log with this boot log, of a boot with `measured`. `later` is what root has
/// extended RTMR2 by since.
fn printed_after(logged: &[u8], measured: &str, later: &[u8]) -> anyhow::Result<String> {
    let measured = boot_log(measured);
    let boot = BootLog::parse(&measured).map_err(|why| anyhow::anyhow!("{why}"))?;
    let [first, second, third, _] = boot.rtmr;
    let mut module = Module::load_after(&[0, CONTROL], [first, second, third], (3, [0; 48]), 1);
    module.checkpoint(None);
    let mut registers = [first, second, third, module.register];
    if !later.is_empty() {
        registers[2] = hash::extend(&third, &hash::digest(later));
    }
    let quote = quote(4, &registers, &[0; 64]);
    let file = with(&module, Frame::BootLog, logged);
    let contents = Contents::read(&file).ok();
    let evidence = evidence(&quote, Evidence::from_quote)?;
    let finding = verify(&file, &evidence, &Policy::DEFAULT);
    let kernel = arguments(&[]).kernel(contents.as_ref(), &evidence, &finding);
    let kernel = kernel.map_err(|failure| failure.error)?;
    Ok(print::text(&finding, &evidence, &kernel))
}

fn printed(logged: &str, measured: &str) -> anyhow::Result<String> {
    printed_after(&boot_log(logged), measured, &[])
}

/// Root has a kernel that is not locked down, extends RTMR2 by another command line, and adds it to the log.
#[test]
fn a_command_line_that_root_measures_later_is_not_believed() -> anyhow::Result<()> {
    let shut = "lockdown=confidentiality module.sig_enforce=1";
    // The entry of a log that has this line; what comes after the last entry is filling.
    let of = |line: &str| -> anyhow::Result<_> {
        let log = boot_log(line);
        let text = [b"kernel_cmdline: ", line.as_bytes()].concat();
        let at = log.windows(text.len()).position(|window| window == text);
        let at = at.context("the log has its line")?;
        Ok((log, at - 66, at + text.len()))
    };
    let (mut forged, _, end) = of("quiet")?;
    let (shut_log, from, to) = of(shut)?;
    forged.splice(end..end, shut_log[from..to].iter().copied());
    let text = printed_after(&forged, "quiet", shut.as_bytes())?;
    assert!(text.starts_with("ATTESTED"), "{text}");
    assert!(!text.contains("no way to become"), "{text}");
    assert!(
        text.contains("kernel: the boot log is of another boot"),
        "{text}"
    );
    // What root does to the register later takes nothing from the log of the boot.
    let text = printed_after(&boot_log(shut), shut, b"anything")?;
    assert!(text.contains("no way to become"), "{text}");
    // But only the first event says then what it was.
    let hint = "so says the first event; its register has been extended since";
    assert!(text.contains(hint), "{text}");
    assert!(!printed(shut, shut)?.contains(hint));
    Ok(())
}

#[test]
fn the_measured_command_line_says_if_root_can_be_the_kernel() -> anyhow::Result<()> {
    let shut = "lockdown=confidentiality module.sig_enforce=1";
    let text = printed(shut, shut)?;
    assert!(text.contains("ATTESTED: events 0 to 1, open\n"), "{text}");
    assert!(
        text.contains("gives root no way to become the kernel"),
        "{text}"
    );
    let text = printed("quiet", "quiet")?;
    assert!(
        text.contains("root can become the kernel: it is not locked down"),
        "{text}"
    );
    assert!(
        text.contains("root can become the kernel: it loads modules"),
        "{text}"
    );
    // One that would like to be a line of the verdict.
    let text = printed("a\nkernel: fine", "a\nkernel: fine")?;
    assert!(text.contains("command line: a\\nkernel: fine\n"), "{text}");
    // A log that says what would be good to hear, of a boot that was another.
    let text = printed(shut, "quiet")?;
    assert!(
        text.contains("kernel: the boot log is of another boot"),
        "{text}"
    );
    assert!(!text.contains("no way to become"), "{text}");
    Ok(())
}

/// What the module itself extends follows from what the register was before.
#[test]
fn the_modules_own_events_take_nothing_from_the_command_line() -> anyhow::Result<()> {
    let bytes = boot_log("quiet");
    let log = BootLog::parse(&bytes).map_err(|why| anyhow::anyhow!("{why}"))?;
    let [first, second, third, _] = log.rtmr;
    let mut module = Module::load_after(&[0, CONTROL], [first, second, third], (2, third), 1);
    module.checkpoint(None);
    let file = with(&module, Frame::BootLog, &bytes);
    let contents = Contents::read(&file).ok();
    let evidence = evidence(&module.quote(4, &[0; 64]), Evidence::from_quote)?;
    let register = crate::options::digits(&third);
    let arguments = arguments(&["--rtmr", "2", "--open-register", &register]);
    let finding = verify(&file, &evidence, &arguments.policy());
    assert_eq!(finding.verdict, Verdict::Attested);
    let kernel = arguments.kernel(contents.as_ref(), &evidence, &finding);
    match kernel.map_err(|failure| failure.error)? {
        Kernel::CommandLine { is_in_evidence, .. } => assert!(is_in_evidence),
        Kernel::NoLog | Kernel::NotProved(_) => panic!("it has a command line"),
    }
    Ok(())
}

#[test]
fn findings_are_told_as_json() -> anyhow::Result<()> {
    let module = module();
    let evidence = evidence(&module.report(&[0; 64]), Evidence::from_report)?;
    let finding = verify(&module.file(), &evidence, &Policy::DEFAULT);
    let json = print::object(&finding, &evidence, &Kernel::NoLog);
    assert_eq!(json["verdict"], "attested");
    assert_eq!(json["session"], "01".repeat(16));
    assert_eq!(
        (&json["last_event"], &json["closed"]),
        (&1.into(), &false.into())
    );
    assert_eq!(json["streams"][0]["proved"], 100);
    assert_eq!(json["signature"], "not checked");
    assert_eq!(json["boot_rtmr"][2], "03".repeat(48));
    let text = print::text(&finding, &evidence, &Kernel::NoLog);
    assert!(text.contains("TDREPORT, UNSIGNED"), "{text}");
    assert!(
        text.contains("control plane: 100 records covered"),
        "{text}"
    );
    Ok(())
}
