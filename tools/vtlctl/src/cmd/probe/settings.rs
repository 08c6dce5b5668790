// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! How the module is set, and where more about it can be read: its parameters in sysfs, its folders in
//! debugfs and tracefs.

use std::path::Path;

use super::{Finding, Findings, MODULE_FOLDER};

const DEBUG_FOLDER: &str = "/sys/kernel/debug/mshv_vtl_tdx";
const TRACE_FOLDERS: [&str; 2] = [
    "/sys/kernel/tracing/events/mshv_vtl_tdx",
    "/sys/kernel/debug/tracing/events/mshv_vtl_tdx",
];

pub(super) fn findings() -> Findings {
    vec![
        (
            "parameters",
            parameters(&Path::new(MODULE_FOLDER).join("parameters")),
        ),
        ("debugfs", folder(&[DEBUG_FOLDER], "debugfs")),
        ("tracepoints", folder(&TRACE_FOLDERS, "tracefs")),
    ]
}

/// Those that sysfs shows, except the memory of the lower VTLs, which has a line of its own.
fn parameters(from: &Path) -> Finding {
    let names = match names(from) {
        Ok(names) => names,
        Err(error) => return Finding::Absent(format!("{}: {error}", from.display())),
    };
    let values: Vec<String> = names
        .into_iter()
        .filter(|name| name != "vtl0_mem")
        .filter_map(|name| {
            let value = std::fs::read_to_string(from.join(&name)).ok()?;
            Some(format!("{name}={}", value.trim()))
        })
        .collect();
    Finding::Found(values.join(" "))
}

/// The first of these folders that is there, and what is in it.
fn folder(places: &[&str], system: &str) -> Finding {
    let found = places
        .iter()
        .find_map(|place| names(Path::new(place)).ok().map(|names| (place, names)));
    match found {
        Some((place, names)) => Finding::Found(format!("{place}: {}", names.join(", "))),
        None => Finding::Absent(format!(
            "no folder of the module: is {system} mounted, and this process root's?"
        )),
    }
}

fn names(folder: &Path) -> std::io::Result<Vec<String>> {
    let mut names = std::fs::read_dir(folder)?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<std::io::Result<Vec<_>>>()?;
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_listed_with_their_values() -> anyhow::Result<()> {
        let folder = std::env::temp_dir().join(format!("vtlctl-settings-{}", std::process::id()));
        std::fs::create_dir_all(&folder)?;
        for (name, value) in [
            ("mitigations", "auto\n"),
            ("vtl0_mem", "0x0,0x1\n"),
            ("attest", "off\n"),
        ] {
            std::fs::write(folder.join(name), value)?;
        }
        let found = parameters(&folder);
        std::fs::remove_dir_all(&folder)?;
        assert_eq!(
            found,
            Finding::Found("attest=off mitigations=auto".to_owned())
        );
        assert!(matches!(parameters(&folder), Finding::Absent(_)));
        Ok(())
    }

    #[test]
    fn a_folder_that_is_not_there_is_absent_and_not_missing() {
        let said = self::folder(&["/nowhere"], "debugfs");
        assert!(matches!(said, Finding::Absent(text) if text.contains("is debugfs mounted")));
    }
}
