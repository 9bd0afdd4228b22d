//! `cargo xtask test`: every test there is, on the host and in guests.

mod kvm;

use crate::linux::Linux;
use crate::setup::{Consent, Need};
use crate::{build, image, project, setup, space};
use anyhow::{Context, Result, anyhow, ensure};
use std::fmt;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

/// Run all tests: on the host, and in guests that Firstlight boots
///
/// The last line printed is `N passed, N failed`, with `, N skipped` when tests are marked as ignored.
#[derive(clap::Args)]
pub struct Args {
    /// Run only the tests whose name contains this
    name: Option<String>,
    /// Run all tests on real Xen, and nothing else: in a test bed of each version, this takes three hours where there are two processors
    #[arg(long)]
    xen: bool,
    /// Run the tests on real KVM, and nothing else: in a test bed, this takes many minutes
    #[arg(long, conflicts_with = "xen")]
    kvm: bool,
    /// Install missing packages without asking
    #[arg(long)]
    yes: bool,
}

/// The outcome of test programs, added up.
#[derive(Debug, Default, PartialEq, Eq)]
struct Summary {
    passed: u64,
    skipped: u64,
    failed: Vec<String>,
}

impl Summary {
    /// How many tests have an outcome.
    fn count(&self) -> u64 {
        self.passed + self.failed.len() as u64
    }

    /// Adds the outcome of others.
    fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.skipped += other.skipped;
        self.failed.extend(other.failed);
    }

    /// Takes a line of a test program's output into account: "test NAME ... FAILED", or the closing "test result: …".
    fn read(&mut self, line: &str) {
        if let Some(name) = line
            .strip_prefix("test ")
            .and_then(|rest| rest.strip_suffix(" ... FAILED"))
        {
            self.failed.push(name.to_owned());
        } else if let Some(counts) = line.strip_prefix("test result: ") {
            let count = |what: &str| {
                let number = counts
                    .split(['.', ';'])
                    .find_map(|count| count.trim().strip_suffix(what)?.trim().parse::<u64>().ok());
                number.unwrap_or(0)
            };
            self.passed += count("passed");
            self.skipped += count("ignored");
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed.len())?;
        if self.skipped > 0 {
            write!(f, ", {} skipped", self.skipped)?;
        }
        Ok(())
    }
}

/// Which tests of the workspace run on the host.
const HOST: [&str; 3] = ["--workspace", "--exclude", "firstlight-tests"];
/// Which run in guests of QEMU.
const GUESTS: [&str; 2] = ["--package", "firstlight-tests"];
/// Which run in guests of Xen: a program's tests share a test bed, so one runs at a time, and `cargo test` by itself leaves them out. The
/// programs of each list run one after the other, and the lists beside each other where the machine has the processors for it.
const XEN: [&[&str]; 2] = [&["xen_4_17"], &["xen_4_20", "xen_libvirt"]];
/// How many processors a bed takes. Only dom0's is busy most of the time, but two beds beside each other on two processors were measured
/// to take more than twice as long, up to four times where a guest's Debian starts.
const BED_CPUS: usize = 2;

/// Those that run by default, since they take little more than the start of the test bed: a good boot, one with nothing to boot, another
/// firmware behind ours, and a damaged one.
const XEN_BY_DEFAULT: [&str; 9] = [
    "--package=firstlight-tests",
    "--test=xen_4_17",
    "--",
    "--ignored",
    "--test-threads=1",
    "a_good_boot_is_quiet",
    "an_empty_disk_leaves_the_guest_running",
    "seabios_as_a_module",
    "a_module_of_garbage_does_not_matter",
];

/// Carries out `cargo xtask test`.
pub fn main(args: Args) -> Result<()> {
    let start = Instant::now();
    let needs = [
        Need::Qemu,
        Need::DebianDisk,
        Need::Guests,
        Need::FileSystems,
        Need::Pygrub,
        Need::Tables,
        Need::Bed,
        Need::Packages,
        Need::Chroot,
        Need::Libvirt,
        Need::Tpm,
    ];
    space::for_tests()?;
    setup::ensure(&needs, Consent::from_flag(args.yes))?;
    let firmware = build::firmware()?;
    let debian = image::demo_disk()?;
    Linux::get()?;
    say("set-up, firmware and guests", start);

    let mut summary = Summary::default();
    let environment = [
        ("FIRSTLIGHT_ROM", firmware.rom),
        ("FIRSTLIGHT_HVMLOADER", firmware.hvmloader),
        ("FIRSTLIGHT_DEBIAN", debian),
    ];
    if args.xen {
        summary = xen(&environment, &args)?;
        say("tests on Xen", start);
    } else if args.kvm {
        kvm::run(true, args.name.as_deref(), &environment, &mut summary)?;
        say("tests on KVM", start);
    } else {
        let host = Instant::now();
        cargo_test(&HOST, "", &[], &args, &mut summary)?;
        say("tests on the host", host);
        let guests = Instant::now();
        cargo_test(&GUESTS, "", &environment, &args, &mut summary)?;
        say("tests in guests", guests);
        if args.name.is_none() {
            let xen = Instant::now();
            cargo_test(&XEN_BY_DEFAULT, "", &environment, &args, &mut summary)?;
            say("tests on Xen", xen);
            let kvm = Instant::now();
            kvm::run(false, None, &environment, &mut summary)?;
            say("tests on KVM", kvm);
        }
    }

    for name in &summary.failed {
        println!("failed: {name}");
    }
    println!("{summary}");
    if !summary.failed.is_empty() {
        std::process::exit(1);
    }
    Ok(())
}

/// Runs all tests on Xen.
fn xen(environment: &[(&str, PathBuf)], args: &Args) -> Result<Summary> {
    // Before two cargos want to build them at once.
    let build = ["--package=firstlight-tests", "--test=xen_*", "--no-run"];
    cargo_test(&build, "", environment, args, &mut Summary::default())?;
    let list = |programs: &[&str]| -> Result<Summary> {
        let mut summary = Summary::default();
        for program in programs {
            let test = format!("--test={program}");
            let options = [
                "--package=firstlight-tests",
                &test,
                "--",
                "--ignored",
                "--test-threads=1",
            ];
            cargo_test(
                &options,
                &format!("{program}: "),
                environment,
                args,
                &mut summary,
            )?;
        }
        Ok(summary)
    };
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let lists = if cpus >= BED_CPUS * XEN.len() {
        XEN.map(<[_]>::to_vec).to_vec()
    } else {
        vec![XEN.concat()]
    };
    std::thread::scope(|scope| {
        let list = &list;
        let spawn = |programs: Vec<&'static str>| scope.spawn(move || list(&programs));
        let lists: Vec<_> = lists.into_iter().map(spawn).collect();
        let mut all = Summary::default();
        for run in lists {
            let one = run.join().map_err(|_| anyhow!("a thread panicked"))??;
            all.add(one);
        }
        Ok(all)
    })
}

fn say(what: &str, since: Instant) {
    println!("{what}: {} s", since.elapsed().as_secs());
}

/// Runs the tests of `packages`, each line of their output shown as it comes, after `prefix`, and adds their outcome to `summary`.
fn cargo_test(
    packages: &[&str],
    prefix: &str,
    environment: &[(&str, PathBuf)],
    args: &Args,
    summary: &mut Summary,
) -> Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .current_dir(project::root())
        .args(["test", "--no-fail-fast"])
        .args(packages)
        .args(&args.name);
    command.envs(environment.iter().map(|(name, value)| (name, value)));
    let mut cargo = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start cargo")?;
    let output = cargo
        .stdout
        .take()
        .context("cargo has no standard output")?;
    let failed_before = summary.failed.len();
    for line in BufReader::new(output).split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        println!("{prefix}{line}");
        summary.read(&line);
    }
    for name in &mut summary.failed[failed_before..] {
        name.insert_str(0, prefix);
    }
    let status = cargo.wait()?;
    if !status.success() && summary.failed.len() == failed_before {
        // A test program that does not compile, or that ends before its last test does.
        summary
            .failed
            .push(format!("cargo test {}", packages.join(" ")));
    }
    ensure!(status.code().is_some(), "cargo test was ended ({status})");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_of_several_programs_are_added_up() {
        let mut summary = Summary::default();
        for line in [
            "test a::b ... ok",
            "test a::c ... FAILED",
            "test result: FAILED. 10 passed; 1 failed; 0 ignored; 0 measured; 2 filtered out; finished in 0.00s",
            "the test result: 5 passed; of a guest",
            "test result: ok. 3 passed; 0 failed; 4 ignored; 0 measured; 0 filtered out; finished in 1.20s",
        ] {
            summary.read(line);
        }
        assert_eq!(
            summary,
            Summary {
                passed: 13,
                skipped: 4,
                failed: vec!["a::c".to_owned()]
            }
        );
    }
}
