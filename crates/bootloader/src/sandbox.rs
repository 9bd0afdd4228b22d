//! What the process that reads a guest's disk may still do: read and write the files that it was given, and end.
//!
//! Four walls, each of which is enough against most of what the others keep out: resource limits; another user; Landlock, which
//! takes the file system and the network away; and a seccomp filter, which leaves some twenty system calls, none of which opens,
//! connects or executes anything. Memory cannot be made executable.

use anyhow::{Context, Result, bail};
use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetStatus,
    Scope,
};
use rustix::process::{Gid, Resource, Rlimit, Uid, geteuid, setrlimit};
use rustix::thread::{set_no_new_privs, set_thread_groups, set_thread_res_gid, set_thread_res_uid};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};
use std::collections::BTreeMap;

/// How much memory the process may have, in bytes.
pub const MEMORY: u64 = 512 << 20;
/// How many seconds of a processor it may take.
pub const SECONDS: u64 = 60;
/// The user that root becomes where nothing else is said: `nobody`.
const NOBODY: u32 = 65534;

/// What the sandbox depends on.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// The user to become. Nothing: `nobody` for root, and otherwise the user stays.
    pub user: Option<u32>,
    /// How many bytes each file may get.
    pub file_size: u64,
}

/// Puts this process into the sandbox, for ever. Returns what was done, for people.
///
/// It has to have one thread: users, Landlock and seccomp are a thread's own.
///
/// # Errors
/// A wall that every Linux since 4.14 has cannot be put up. Landlock is younger (5.13) and is taken where it is.
pub fn enter(rules: Rules) -> Result<String> {
    limits(rules.file_size)?;
    let user = user(rules.user)?;
    set_no_new_privs(true).context("no_new_privs")?;
    let landlock = landlock()?;
    let filter = filter()?;
    seccompiler::apply_filter(&filter).context("seccomp")?;
    let calls = allowed()?.len();
    Ok(format!(
        "sandbox: {user}, {} MiB, {SECONDS} s, {landlock}, {calls} system calls",
        MEMORY >> 20
    ))
}

fn limits(file_size: u64) -> Result<()> {
    let limits = [
        (Resource::As, MEMORY),
        (Resource::Cpu, SECONDS),
        (Resource::Fsize, file_size),
        (Resource::Core, 0),
        (Resource::Nproc, 0),
        (Resource::Memlock, 0),
        (Resource::Msgqueue, 0),
        (Resource::Nofile, 16),
    ];
    for (resource, limit) in limits {
        let limit = Rlimit {
            current: Some(limit),
            maximum: Some(limit),
        };
        setrlimit(resource, limit).with_context(|| format!("limit of {resource:?}"))?;
    }
    Ok(())
}

fn user(wanted: Option<u32>) -> Result<String> {
    let own = geteuid();
    if !own.is_root() {
        if wanted.is_some_and(|wanted| wanted != own.as_raw()) {
            bail!("only root can read the disk as another user");
        }
        return Ok(format!("user {}", own.as_raw()));
    }
    let id = wanted.unwrap_or(NOBODY);
    if id == 0 {
        bail!("the disk is not read as root");
    }
    // As pygrub does: the group has the user's number.
    let (user, group) = (Uid::from_raw(id), Gid::from_raw(id));
    set_thread_groups(&[group]).context("setgroups")?;
    set_thread_res_gid(group, group, group).context("setresgid")?;
    set_thread_res_uid(user, user, user).context("setresuid")?;
    Ok(format!("user {id}"))
}

/// No file, no directory, no port, no abstract socket and no process outside.
fn landlock() -> Result<&'static str> {
    let newest = ABI::V6;
    let status = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(newest))?
        .handle_access(AccessNet::from_all(newest))?
        .scope(Scope::from_all(newest))?
        .create()?
        .restrict_self()?;
    Ok(match status.ruleset {
        RulesetStatus::FullyEnforced => "Landlock",
        RulesetStatus::PartiallyEnforced => "Landlock as far as this kernel has it",
        RulesetStatus::NotEnforced => "no Landlock in this kernel",
    })
}

/// The requests of ioctl that ask for and set a terminal's modes, and ask for its size (ioctl_tty(2)); none of them types into it.
const TERMINAL: &[u64] = &[
    0x5401,      // TCGETS
    0x5402,      // TCSETS
    0x5403,      // TCSETSW
    0x5413,      // TIOCGWINSZ
    0x802c_542a, // TCGETS2
    0x402c_542b, // TCSETS2
    0x402c_542c, // TCSETSW2
];

/// The system calls that remain, each with the conditions one of which has to hold; none means that it is free.
fn allowed() -> Result<BTreeMap<i64, Vec<SeccompRule>>> {
    let free = [
        libc::SYS_read,
        libc::SYS_readv,
        libc::SYS_pread64,
        libc::SYS_write,
        libc::SYS_writev,
        libc::SYS_pwrite64,
        libc::SYS_splice,
        libc::SYS_fallocate,
        libc::SYS_lseek,
        libc::SYS_close,
        libc::SYS_fstat,
        libc::SYS_ppoll,
        libc::SYS_clock_gettime,
        libc::SYS_munmap,
        libc::SYS_mremap,
        libc::SYS_brk,
        libc::SYS_madvise,
        libc::SYS_futex,
        libc::SYS_getrandom,
        libc::SYS_sigaltstack,
        libc::SYS_rt_sigreturn,
        libc::SYS_exit,
        libc::SYS_exit_group,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_poll,
    ];
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        free.into_iter().map(|call| (call, Vec::new())).collect();
    let requests: Result<Vec<SeccompRule>> = TERMINAL
        .iter()
        .map(|request| rule(1, SeccompCmpOp::Eq, *request))
        .collect();
    rules.insert(libc::SYS_ioctl, requests?);
    // Never executable.
    let executable = libc::PROT_EXEC as u64;
    let data_only = || rule(2, SeccompCmpOp::MaskedEq(executable), 0);
    rules.insert(libc::SYS_mmap, vec![data_only()?]);
    rules.insert(libc::SYS_mprotect, vec![data_only()?]);
    // Messages go to the process outside only, at standard input.
    rules.insert(libc::SYS_sendto, vec![rule(0, SeccompCmpOp::Eq, 0)?]);
    Ok(rules)
}

fn rule(argument: u8, operator: SeccompCmpOp, value: u64) -> Result<SeccompRule> {
    let condition = SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value)?;
    Ok(SeccompRule::new(vec![condition])?)
}

/// The filter. What it does not allow fails with EPERM, so that a C library that tries a newer call first goes on.
fn filter() -> Result<BpfProgram> {
    let filter = SeccompFilter::new(
        allowed()?,
        SeccompAction::Errno(libc::EPERM as u32),
        SeccompAction::Allow,
        std::env::consts::ARCH.try_into()?,
    )?;
    Ok(filter.try_into()?)
}
