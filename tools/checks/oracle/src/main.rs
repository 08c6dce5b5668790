// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Replays recorded calls of a TDX module against `tdx_model`: `tdx_oracle FILE...`, where `-` is
//! standard input.
//!
//! A trace has a JSON object on each line: `trace.rs`. What it expects comes from a real machine,
//! another emulator or a document, never from this model, and each line names its source.

mod machine;
mod replay;
mod trace;

use std::process::ExitCode;

fn main() -> ExitCode {
    let files: Vec<String> = std::env::args().skip(1).collect();
    if files.is_empty() {
        eprintln!("usage: tdx_oracle FILE...");
        return ExitCode::from(2);
    }
    let mut is_same = true;
    for file in files {
        let text = match file.as_str() {
            "-" => std::io::read_to_string(std::io::stdin()),
            path => std::fs::read_to_string(path),
        };
        let replayed = text
            .map_err(|why| why.to_string())
            .and_then(|text| replay::replay(&text));
        match replayed {
            Ok(report) => {
                for (line, what) in &report.differences {
                    println!("{file}:{line}: {what}");
                }
                let differences = report.differences.len();
                println!(
                    "{file}: {} checks, {differences} differences",
                    report.checks
                );
                is_same &= differences == 0 && report.checks > 0;
            }
            Err(why) => {
                eprintln!("{file}: {why}");
                return ExitCode::from(2);
            }
        }
    }
    if is_same {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
