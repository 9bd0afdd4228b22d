//! `cargo xtask test --kvm`: tests of guests again, on real KVM.
//!
//! A test program that was built here runs in the KVM test bed, where its guests have KVM for their accelerator.

use super::Summary;
use crate::bed::Bed;
use crate::kvm::bed::{self, Config, quoted};
use crate::project;
use anyhow::{Context, Result, ensure};
use firstlight_vm::wait;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// By how much deadlines are longer two emulations deep.
const SCALE: u32 = 6;
/// How long one test may take, before that factor, whatever its own deadline is.
const LIMIT: Duration = Duration::from_secs(600);

/// Tests of one program.
type Group = (&'static str, &'static [&'static str]);

/// What runs by default: GRUB, which writes to a VGA card and starts a kernel, and what services leave alone.
const DEFAULT: &[Group] = &[
    ("debian", &["grub_writes_to_the_screen_and_starts_a_kernel"]),
    ("state", &["pc_services_keep_all_state"]),
];

/// What starts a Linux. Guests have memory below 4 GiB only: with more, QEMU's emulation of SVM stops the bed, under SeaBIOS too. Without
/// nested paging the decompressor resets at the first instruction after its load of CR3, again under SeaBIOS too.
const LINUX: &[Group] = &[
    (
        "debian",
        &[
            "grub_writes_to_the_screen_and_starts_a_kernel",
            "debian_on_pc_with_1_cpu_and_128_mib",
            "debian_on_pc_with_2_cpus_and_1_gib",
            "debian_on_q35_with_1_cpu_and_1_gib",
            "debian_on_q35_with_2_cpus_and_128_mib",
        ],
    ),
    (
        "direct",
        &[
            "debian_kernel_on_pc_with_1_cpu_and_512_mib",
            "debian_kernel_on_q35_with_8_cpus_and_1_gib",
        ],
    ),
    (
        "tables",
        &["pc_sleeps_and_wakes_up", "q35_sleeps_and_wakes_up"],
    ),
];

/// What starts none, and so runs with nested paging and without, as on old processors.
const FIRMWARE: &[Group] = &[
    ("direct", &["small_pvh_kernel_is_told_everything"]),
    (
        "services",
        &[
            "pc_with_four_disks_answers_as_seabios",
            "q35_with_four_sata_disks_answers_as_seabios",
            "pc_with_two_virtio_disks_answers_as_seabios",
            "q35_with_two_nvme_disks_answers_as_seabios",
        ],
    ),
    (
        "state",
        &[
            "pc_services_keep_all_state",
            "q35_services_keep_all_state",
            "callers_in_any_state_are_served",
            "unreal_mode_survives_services",
            "callers_in_16_bit_protected_mode_are_served",
            "protected_mode_callers_get_an_error_without_a_way_in",
        ],
    ),
    (
        "boot",
        &[
            "pc_starts_50_times_with_one_memory_map",
            "q35_starts_50_times_with_one_memory_map",
            "apm_switches_the_machine_off",
        ],
    ),
    (
        "machine",
        &["eight_processors_start_with_and_without_x2apic"],
    ),
    (
        "video",
        &[
            "cards_of_pc_answer_as_under_seabios",
            "an_exception_is_told_from_an_interrupt",
        ],
    ),
    (
        "storage",
        &[
            "writes_are_on_the_hosts_disk_when_the_call_returns",
            "virtio_devices_of_every_age_boot",
        ],
    ),
    (
        "cd",
        &[
            "diskettes_and_disks_are_emulated",
            "cds_boot_behind_each_controller",
        ],
    ),
    ("hostile", &["a_jump_to_ffff_0_restarts"]),
    ("menu", &["a_guest_in_the_menu_can_be_migrated"]),
];

/// Runs the tests, all of them or a few, of which only those whose name contains `name`.
///
/// # Errors
/// The tests cannot be built, or there is no test bed.
pub fn run(
    all: bool,
    name: Option<&str>,
    environment: &[(&str, PathBuf)],
    summary: &mut Summary,
) -> Result<()> {
    let programs = programs()?;
    let mut runner = Runner {
        programs,
        environment,
        name,
        bed: None,
    };
    if !all {
        return runner.groups(DEFAULT, true, summary);
    }
    runner.groups(LINUX, true, summary)?;
    runner.groups(FIRMWARE, true, summary)?;
    runner.groups(FIRMWARE, false, summary)
}

/// Builds the test programs and returns where each is.
fn programs() -> Result<BTreeMap<String, PathBuf>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .current_dir(project::root())
        .args([
            "test",
            "--no-run",
            "--package=firstlight-tests",
            "--message-format=json",
        ])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("cannot start cargo")?;
    ensure!(output.status.success(), "the tests cannot be built");
    Ok(String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(program)
        .collect())
}

/// The test program that a line of cargo's tells of: its name and its file.
fn program(line: &str) -> Option<(String, PathBuf)> {
    let message: Value = serde_json::from_str(line).ok()?;
    let file = message.get("executable")?.as_str()?;
    let name = message.pointer("/target/name")?.as_str()?;
    Some((name.to_owned(), file.into()))
}

struct Runner<'a> {
    programs: BTreeMap<String, PathBuf>,
    environment: &'a [(&'a str, PathBuf)],
    name: Option<&'a str>,
    bed: Option<Bed>,
}

impl Runner<'_> {
    fn groups(&mut self, groups: &[Group], nested_paging: bool, out: &mut Summary) -> Result<()> {
        if let Some(bed) = self.bed.as_mut().filter(|_| !nested_paging) {
            bed::leave_out_nested_paging(bed)?;
        }
        for (program, tests) in groups {
            let wanted = |test: &&&str| self.name.is_none_or(|name| test.contains(name));
            for test in tests.iter().filter(wanted) {
                let mut bed = match self.bed.take() {
                    Some(bed) => bed,
                    None => self.start(nested_paging)?,
                };
                // A bed that is lost, or busy with what took all of its time, is not used again.
                match self.test(&mut bed, program, test, out) {
                    Ok(()) => self.bed = Some(bed),
                    Err(error) => {
                        println!("{error:#}");
                        out.failed.push((*test).to_owned());
                    }
                }
            }
        }
        Ok(())
    }

    fn start(&self, nested_paging: bool) -> Result<Bed> {
        println!("Starting the KVM test bed");
        let mut config = Config::new()
            .share(&project::cache()?)
            .share(&project::target())
            .lifetime(Duration::from_secs(4 * 3600));
        for (_, file) in self.environment {
            config = config.share(file.parent().unwrap_or(Path::new("/")));
        }
        let mut bed = config.start()?;
        if !nested_paging {
            bed::leave_out_nested_paging(&mut bed)?;
        }
        Ok(bed)
    }

    /// Runs one test, whose outcome goes to `summary`.
    fn test(&self, bed: &mut Bed, program: &str, test: &str, summary: &mut Summary) -> Result<()> {
        let file = self.programs.get(program);
        let file = file.with_context(|| format!("there are no tests {program:?}"))?;
        let scale = wait::scale() * SCALE;
        let mut script = format!(
            "cd {}/tests\nexport FIRSTLIGHT_ACCELERATOR=kvm FIRSTLIGHT_DEADLINE_SCALE={scale} XDG_CACHE_HOME={}\n",
            quoted(&project::root().display().to_string()),
            quoted(&parent(&project::cache()?)),
        );
        for (name, value) in self.environment {
            let value = quoted(&value.display().to_string());
            script.push_str(&format!("export {name}={value}\n"));
        }
        let program = quoted(&file.display().to_string());
        script.push_str(&format!(
            "{program} --exact --include-ignored --test-threads=1 {test}"
        ));
        let before = summary.count();
        let status = bed.run_with(&script, LIMIT * scale, |line| {
            println!("{line}");
            summary.read(line);
        })?;
        ensure!(
            summary.count() != before,
            "{test}: no outcome, status {status}\n{}",
            bed.tails()
        );
        Ok(())
    }
}

fn parent(directory: &Path) -> String {
    let parent = directory.parent().unwrap_or(directory);
    parent.display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_told_by_cargo() {
        let line = r#"{"reason":"compiler-artifact","target":{"kind":["test"],"name":"debian"},"executable":"/t/debian-1"}"#;
        assert_eq!(program(line), Some(("debian".into(), "/t/debian-1".into())));
        let line = r#"{"reason":"compiler-artifact","target":{"name":"serde"},"executable":null}"#;
        assert_eq!(program(line), None);
        assert_eq!(program("   Compiling serde"), None);
    }

    #[test]
    fn each_test_is_there() {
        for (program, tests) in [DEFAULT, LINUX, FIRMWARE].concat() {
            let file = project::root().join(format!("tests/tests/{program}.rs"));
            let source = std::fs::read_to_string(&file).expect("the program");
            for test in tests {
                assert!(source.contains(&format!("fn {test}()")), "{program} {test}");
            }
        }
    }
}
