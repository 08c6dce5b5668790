// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Test: the documents and the command line say the same. What a page has its reader type is accepted,
//! and what the command line has is on a page. The manual pages come from the same description as the
//! command line. Also compiled by the tests of `vtl1ctl`.

use std::path::{Path, PathBuf};

use clap::Command;

/// Each page, by its name.
fn pages() -> std::io::Result<Vec<(String, String)>> {
    let mut top = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    while !top.join("Documentation").is_dir() {
        assert!(top.pop(), "there is no folder Documentation");
    }
    let mut pages = Vec::new();
    for folder in [top.clone(), top.join("Documentation")] {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.extension().is_some_and(|it| it == "rst") {
                pages.push((name_of(&path), std::fs::read_to_string(&path)?));
            }
        }
    }
    Ok(pages)
}

fn name_of(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

/// What follows `program` on a page, wherever it is called: in a block, or in the text as a literal.
fn calls<'a>(page: &'a str, program: &str) -> Vec<&'a str> {
    let start = format!("{program} ");
    page.match_indices(&start)
        .filter_map(|(at, _)| {
            let after = &page[at + start.len()..];
            let end = match page[..at].chars().next_back()? {
                '`' => after.find("``"),
                '(' => after.find([')', '\n']),
                '\'' => after.find(['\'', '\n']),
                '\t' => end_of_line(after),
                ' ' if page[..at].ends_with("\t# ") => end_of_line(after),
                _ => None,
            };
            Some(&after[..end?])
        })
        .collect()
}

/// The end of a line of a shell, which goes on after a backslash.
fn end_of_line(text: &str) -> Option<usize> {
    text.match_indices('\n')
        .map(|(at, _)| at)
        .find(|at| !text[..*at].ends_with('\\'))
}

/// The words up to a redirection, a pipe or a comment; what is in quotes is one word.
fn words(call: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut is_quoted = false;
    for sign in call.chars() {
        match sign {
            '\'' => is_quoted = !is_quoted,
            '\\' if !is_quoted => {}
            it if it.is_whitespace() && !is_quoted => words.push(String::new()),
            it => words.last_mut().expect("never empty").push(it),
        }
    }
    let is_over = |word: &String| word.starts_with(['<', '>', '|', '#', '&']);
    let mut words: Vec<_> = words.into_iter().take_while(|it| !is_over(it)).collect();
    words.retain(|it| !it.is_empty());
    words
}

/// What is wrong with a call: a command or an option that does not exist.
fn complaint(command: &Command, words: &[String]) -> Option<String> {
    let mut command = command;
    let mut is_operand = false;
    // What follows an option, in brackets or not, may be its value.
    let mut is_value = false;
    for word in words {
        let word = word.trim_start_matches('[').trim_end_matches([']', '.']);
        if let Some(option) = word.strip_prefix("--") {
            let name = option.split('=').next().unwrap_or_default();
            let known = command
                .get_arguments()
                .find(|it| it.get_long() == Some(name));
            if known.is_none() && !["help", "version"].contains(&name) {
                return Some(format!("{} has no --{name}", command.get_name()));
            }
            is_value = name == option && known.is_some_and(|it| it.get_action().takes_values());
        } else if is_value {
            is_value = false;
        } else if !is_operand && command.has_subcommands() && !word.starts_with(['-', '|']) {
            match command.find_subcommand(word) {
                Some(found) => command = found,
                None => return Some(format!("{} has no {word}", command.get_name())),
            }
        } else {
            is_operand = true;
        }
    }
    None
}

/// The names of `command` and of its commands, from `program` on, with the options of each.
fn described(command: &Command, name: &str, all: &mut Vec<(String, Vec<String>)>) {
    let options = command.get_arguments().filter_map(|it| it.get_long());
    let options = options.map(|it| format!("--{it}")).collect();
    all.push((name.to_owned(), options));
    for each in command.get_subcommands() {
        described(each, &format!("{name} {}", each.get_name()), all);
    }
}

/// Compares the pages with a command line.
pub(crate) fn compare(command: &Command, not_calls: &[&str]) -> Result<(), String> {
    let program = command.get_name().to_owned();
    let pages = pages().map_err(|error| error.to_string())?;
    let mut wrong = Vec::new();
    let mut count = 0;
    for (name, page) in &pages {
        for call in calls(page, &program) {
            count += 1;
            if let Some(text) = complaint(command, &words(call)) {
                if !not_calls.contains(&call) {
                    wrong.push(format!("{name}: '{call}': {text}"));
                }
            }
        }
    }
    let mut all = Vec::new();
    described(command, &program, &mut all);
    let spaced = |page: &str| page.split_whitespace().collect::<Vec<_>>().join(" ");
    let texts: Vec<_> = pages.iter().map(|(_, page)| spaced(page)).collect();
    let is_mentioned = |text: &str| texts.iter().any(|page| page.contains(text));
    for (name, options) in &all {
        if !is_mentioned(name) {
            wrong.push(format!("no page has '{name}'"));
        }
        for option in options.iter().filter(|it| !is_mentioned(it)) {
            wrong.push(format!("no page has {option} of '{name}'"));
        }
    }
    assert!(count >= 5, "only {count} calls of {program} were found");
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(wrong.join("\n"))
    }
}

#[test]
fn calls_are_found_in_blocks_and_in_the_text() {
    let page = "By ``tool one\ntwo`` it is::\n\n\t# tool three 'a b' \\\n\t\t--four # five\n\
                \tx=$(tool six)\n\nA tool seven.\n";
    let found: Vec<_> = calls(page, "tool").into_iter().map(words).collect();
    let expected: [&[&str]; 3] = [&["one", "two"], &["three", "a b", "--four"], &["six"]];
    assert_eq!(found, expected);
}

#[test]
fn what_does_not_exist_is_named() {
    let device = clap::arg!(--device <FILE>);
    let tool = Command::new("tool")
        .arg(device)
        .subcommand(Command::new("show").arg(clap::arg!(--all)));
    let said = |call| complaint(&tool, &words(call)).unwrap_or_default();
    assert_eq!(said("--device FILE show [--all] FILE"), "");
    assert_eq!(said("show --some FILE"), "show has no --some");
    assert_eq!(said("hide"), "tool has no hide");
}
